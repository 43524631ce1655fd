// The shapes that the scripts of the pages share: global types for their JSDoc. Not served.

type Condition = "stuck" | "stalled" | "late" | "slower";
type Status = "running" | "succeeded" | "failed" | "stopped";
type State = Status | Condition | "deleted";

/** An item as the server serializes it; see `Item` in `_models.py`. */
interface WireItem {
  id: string;
  title: string;
  description: string;
  value: number;
  completed: number | null;
  total: number | null;
  unit: string;
  weight: number;
  status: Status | "deleted";
  stalled: boolean;
  late: boolean;
  stuck: boolean;
  slower: boolean;
  error: string | null;
  group: string | null;
  parent: string | null;
  meta: Record<string, string>;
  rate: number | null;
  eta: number | null;
  eta_low: number | null;
  eta_high: number | null;
  finish_at: string | null;
  basis: string | null;
  estimated_total: number | null;
  estimated_value: number | null;
  usual_gap_seconds: number | null;
  usual_duration_seconds: number | null;
  owner: string;
  run_id: string;
  seq: number;
  short_runs: number;
  created_at: string;
  started_at: string;
  progressed_at: string;
  updated_at: string;
  ended_at: string | null;
  heartbeat_timeout: number | null;
  deadline: string | null;
  notify: string[];
  stuck_after?: number | null;
  ttl: number | null;
  stoppable: boolean;
  stop_requested_at: string | null;
  stop_requested_by: string | null;
}

/** A message of the stream; see `stream.js`. */
type StreamMessage =
  | { type: "snapshot"; time: string; items: WireItem[] }
  | { type: "change"; time: string; items: WireItem[]; gone: string[]; ended: WireItem[] }
  | { type: "heartbeat"; time: string }
  | { type: "offline"; time: string | null }
  | { type: "online" }
  | { type: "signed-out" }
  | { type: "not-found" };

/** What a message changed in the board; see `state.js`. `ended` are the runs that ended, as the message names them. */
interface StoreChanges {
  added: WireItem[];
  changed: [before: WireItem, after: WireItem][];
  removed: WireItem[];
  ended: WireItem[];
  isSnapshot: boolean;
}

/** What the reader wants to see of the board; `group` is null for all groups. */
interface BoardQuery {
  q: string;
  status: string;
  sort: string;
  group: string | null;
}

/** Counts of items by condition; `meanValue` is null if no running item has a known share. */
interface Summary extends Record<"running" | "failed" | Condition, number> {
  meanValue: number | null;
}

/** The entries of the board, in the order of the screen; see `arrange.js`. The key of an item's entry is its id. */
type BoardEntry = AttentionEntry | HeadingEntry | ItemEntry | ErrorEntry;
interface HeadingEntry {
  kind: "heading";
  key: string;
  group: string;
  isFolded: boolean;
}
interface ItemEntry {
  kind: "item";
  key: string;
  item: WireItem;
  depth: number;
  isFirst: boolean;
  isLast: boolean;
}
interface ErrorEntry {
  kind: "error";
  key: string;
  row: { item: WireItem };
}
interface BoardGroup {
  heading: HeadingEntry;
  rows: ItemEntry[];
}

/** All matching items: `entries` without the rows of folded groups, `rows` by id with them. */
interface Arrangement {
  entries: BoardEntry[];
  groups: Map<string, BoardGroup>;
  rows: Map<string, ItemEntry>;
}

/** The entries of the section of what needs attention; see `attention_list.js`. */
type AttentionEntry = AttentionHeadingEntry | AttentionItemEntry | AttentionMoreEntry;
interface AttentionHeadingEntry {
  kind: "attention-heading";
  key: string;
  listed: import("./static/attention.js").Attention[];
}
interface AttentionItemEntry {
  kind: "attention";
  key: string;
  item: WireItem;
  attention: import("./static/attention.js").Attention;
  isFirst: boolean;
  isLast: boolean;
}
interface AttentionMoreEntry {
  kind: "attention-more";
  key: string;
  hiddenCount: number;
}

/** The status of a run, which may have been deleted while it ran. */
type RunStatus = Status | "deleted";

/** A run of `GET api/v1/curves`. */
interface RunCurve {
  id: string;
  run_id: string;
  status: RunStatus;
  started_at: string;
  /** Null while it is running. */
  duration_seconds: number | null;
  unit: string;
  total: number | null;
  /** Seconds since the start, and `completed`, or `value` of a run without a count. */
  points: [number, number][];
}

/** A run of `GET api/v1/history:statistics`. */
interface PastRun {
  run_id: string;
  status: RunStatus;
  started_at: string;
  ended_at: string;
  duration_seconds: number;
}

/** The answer of `GET api/v1/history:statistics`. */
interface RunStatistics {
  run_count: number;
  success_rate: number | null;
  median_duration_seconds: number | null;
  low_duration_seconds: number | null;
  high_duration_seconds: number | null;
  usual_start_seconds: number | null;
  runs: PastRun[];
}
