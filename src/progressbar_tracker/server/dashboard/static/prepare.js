// Begins to read the list of the page while its other scripts are still loading.

import { prepare } from "./stream.js";

prepare();
