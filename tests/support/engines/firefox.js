// Drives Firefox for a test in Python: node firefox.js PACKAGE_JSON FIREFOX PREFERENCES
//
// PREFERENCES is a JSON object of additional preferences.
//
// Each line of the input is a command with its arguments, as a JSON array. Each line of the output is an answer, with a
// "value" or an "error"; the first one says that the browser is ready. The end of the input closes the browser.

const { createRequire } = require("node:module");
const { createInterface } = require("node:readline");

const [packageFile, executablePath, preferences] = process.argv.slice(2);
const puppeteer = createRequire(packageFile)("puppeteer-core");

function answer(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

async function main() {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    timeout: 120000, // a busy machine starts it slowly
    defaultViewport: { width: 1280, height: 800 },
    extraPrefsFirefox: {
      "ui.prefersReducedMotion": 1,
      "intl.accept_languages": "en-US",
      "dom.ipc.processPrelaunch.enabled": false, // a process that no test uses
      ...JSON.parse(preferences),
    },
  });
  const page = await browser.newPage();
  page.setDefaultTimeout(120000);
  const commands = {
    open: (url) => page.goto(url).then(() => null),
    evaluate: (expression) => page.evaluate(expression),
    click: (selector) => page.click(selector),
    type: (selector, text) => page.type(selector, text),
    press: (key) => page.keyboard.press(key),
    takeScreenshot: () => page.screenshot({ encoding: "base64" }),
    clearCookies: async () => browser.deleteCookie(...(await browser.cookies())),
  };
  answer({});
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ...args] = JSON.parse(line);
    try {
      answer({ value: await commands[command](...args) });
    } catch (error) {
      answer({ error: String(error) });
    }
  }
  await browser.close();
}

main().catch((error) => {
  answer({ error: String(error) });
  process.exit(1);
});
