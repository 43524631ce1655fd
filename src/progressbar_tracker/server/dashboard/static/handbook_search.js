// Finds the sections of the handbook that answer a query: those with most of its words first.

/** @typedef {[heading: string, anchor: string, text: string]} Section */
/** @typedef {{ path: string, title: string, sections: Section[] }} IndexPage */
/** @typedef {{ path: string, title: string, heading: string, anchor: string, excerpt: string, score: number }} Result */
/** @typedef {{ weight: number, lower: string, stems: Map<string, string> }} Field A text of a section in lower case, and the stems of its words. */
/** @typedef {{ word: string, stem: string, pattern: RegExp }} Term A word of a query. */
/** @typedef {{ quality: number, weight: number }} Match How well a word matches, and the weight of the fields that have it. */

const MAX_RESULTS = 12;
const MAX_PAGE_RESULTS = 3;
const EXCERPT_LENGTH = 140; // characters
const EXCERPT_LEAD = 40; // characters before the first word
const WEIGHTS = { title: 12, heading: 8, text: 1 };
const RANK_POWER = 1.25; // a section with more of the words precedes one that has fewer of them in its title
const PAGE_SHARE = 0.5; // of the rank of a word that is in another section of the page
const REFERENCE_SHARE = 0.8; // of a score: its long lists contain most words, and other pages explain them
const MIN_STEM_LENGTH = 5; // letters that related words have in common
const MIN_INNER_STEM_LENGTH = 6; // letters of a stem within a longer word; "stall" does not explain "install"
const MIN_EQUAL_STEM_LENGTH = 4; // letters of a stem that is the same for both
const MIN_SPACED_LENGTH = 4; // characters of a word that may have spaces in the text
/** The share of a weight: for a word, its start, a related word, and a match that is not at the start of a word. */
const QUALITIES = { whole: 1, start: 0.8, related: 0.6, inner: 0.02 };
const REPEAT_SHARE = 0.1; // of a weight, for each further occurrence of a word
const MAX_REPEATS = 5;
const LITERAL_PATTERN = /[\\^$.*+?()[\]{}|/]/g;
const LETTER_PATTERN = /[\p{L}\p{N}]/u;
const STOP_WORDS = new Set(
  ("a about after all an and any are as at be by can cannot could do does doesn't don't for from get has have how i if in into is isn't it its me my not of on or " +
    "our should so that the their then there this to was we were what when where which while who why will with without won't would you your").split(" "),
);

/** @type {WeakMap<Section, Field[]>} */
const preparedFields = new WeakMap();

/**
 * Returns the words of a query in lower case, without those that occur in any text, unless it has no others.
 *
 * @param {string} query
 */
export function splitWords(query) {
  const parts = query.toLowerCase().replace(/’/g, "'").split(/[\s"“”]+/).map((word) => word.replace(/^['(]+|[?!.,;:')]+$/g, ""));
  const words = [...new Set(parts)].filter((word) => /[\p{L}\p{N}]/u.test(word));
  const significant = words.filter((word) => !STOP_WORDS.has(word));
  return significant.length > 0 ? significant : words;
}

/**
 * Returns sections that contain words of a query. Those with all words are first, then those with most of them. A rare
 * word counts more than a frequent one, and a word in a title more than one in the text.
 *
 * @param {IndexPage[]} pages
 * @param {string} query
 * @returns {Result[]}
 */
export function searchPages(pages, query) {
  const words = splitWords(query);
  const terms = words.map((word) => ({ word, stem: findStem(word), pattern: createPattern(word) }));
  const found = pages.map(({ path, title, sections }) => sections.map((section) => {
    const fields = prepareFields(title, section);
    return { path, title, section, matches: terms.map((term) => matchTerm(term, fields)) };
  }));
  const rarities = words.map((_, index) => measureRarity(found.map((sections) => sections.map(({ matches }) => /** @type {Match} */ (matches[index])))));
  const rated = found.flatMap((sections) => {
    const entries = sections.map((entry) => ({ ...entry, ...rateMatches(entry.matches, rarities) }));
    const onPage = words.map((_, index) => sections.some(({ matches }) => isFound(matches[index])));
    const share = rarities.reduce((sum, rarity, index) => sum + (onPage[index] ? rarity : 0), 0);
    const most = Math.max(...entries.map(({ coverage }) => coverage));
    // A page is listed by its best sections.
    return entries.filter(({ coverage, score }) => score > 0 && coverage === most)
      .map((entry) => ({ ...entry, rank: entry.coverage + share * PAGE_SHARE, score: entry.score * (entry.path.startsWith("reference/") ? REFERENCE_SHARE : 1) }))
      .sort((one, other) => other.score - one.score).slice(0, MAX_PAGE_RESULTS);
  });
  rated.sort((one, other) => other.rank ** RANK_POWER * other.score - one.rank ** RANK_POWER * one.score);
  return rated.slice(0, MAX_RESULTS).map(({ path, title, section: [heading, anchor, text], score }) =>
    ({ path, title, heading, anchor, excerpt: createExcerpt(text, words), score }));
}

/** @param {Match | undefined} match */
function isFound(match) {
  return match !== undefined && match.quality >= QUALITIES.related;
}

/**
 * Returns a number that is greater if fewer pages have the word.
 *
 * @param {Match[][]} pages
 */
function measureRarity(pages) {
  return Math.log(1 + pages.length / (1 + pages.filter((matches) => matches.some(isFound)).length));
}

/**
 * Returns how many of the words a section has, as a sum of their rarities, and its score.
 *
 * @param {Match[]} matches
 * @param {number[]} rarities
 */
function rateMatches(matches, rarities) {
  let coverage = 0;
  let score = 0;
  matches.forEach((match, index) => {
    const rarity = rarities[index] ?? 0;
    if (isFound(match)) coverage += rarity;
    score += rarity * match.weight;
  });
  return { coverage, score };
}

/**
 * @param {string} title
 * @param {Section} section
 */
function prepareFields(title, section) {
  let fields = preparedFields.get(section);
  if (fields === undefined) {
    const [heading, , text] = section;
    fields = [[WEIGHTS.title, title], [WEIGHTS.heading, heading], [WEIGHTS.text, text]].map(([weight, value]) => {
      const lower = String(value).toLowerCase();
      return { weight: Number(weight), lower, stems: new Map((lower.match(/\p{L}+/gu) ?? []).map((word) => [word, findStem(word)])) };
    });
    preparedFields.set(section, fields);
  }
  return fields;
}

/**
 * Returns the pattern of a word at the start of a word of a text: "vscode" is in "VS Code", too.
 *
 * @param {string} word
 */
function createPattern(word) {
  const characters = [...word].map((character) => character.replace(LITERAL_PATTERN, "\\$&"));
  return new RegExp(`(?<![\\p{L}\\p{N}])${characters.join(characters.length < MIN_SPACED_LENGTH ? "" : "[\\s_-]?")}`, "gu");
}

/**
 * @param {Term} term
 * @param {Field[]} fields
 * @returns {Match}
 */
function matchTerm(term, fields) {
  let quality = 0;
  let weight = 0;
  for (const field of fields) {
    const share = matchField(term, field);
    quality = Math.max(quality, share);
    weight += share * field.weight;
  }
  return { quality, weight };
}

/**
 * @param {Term} term
 * @param {Field} field
 */
function matchField(term, field) {
  const found = [...field.lower.matchAll(term.pattern)];
  if (found.length > 0) {
    const isWhole = found.some((match) => !LETTER_PATTERN.test(field.lower.charAt(match.index + match[0].length)));
    return (isWhole ? QUALITIES.whole : QUALITIES.start) * (1 + REPEAT_SHARE * Math.min(found.length - 1, MAX_REPEATS));
  }
  for (const [word, stem] of field.stems) if (isRelated(term, word, stem)) return QUALITIES.related;
  return field.lower.includes(term.word) ? QUALITIES.inner : 0;
}

/**
 * Returns whether a word of a text has a stem in common with one of a query, as "succeeded" with "success", and
 * "processes" with "multiprocessing".
 *
 * @param {Term} term
 * @param {string} word
 * @param {string} stem
 */
function isRelated(term, word, stem) {
  if (stem.length < MIN_STEM_LENGTH) return stem === term.stem && stem.length >= MIN_EQUAL_STEM_LENGTH;
  return (stem.length >= MIN_INNER_STEM_LENGTH && term.word.includes(stem)) || term.word.startsWith(word.slice(0, Math.max(MIN_STEM_LENGTH, stem.length - 2)));
}

/** @param {string} word */
function findStem(word) {
  const stem = word.replace(/(?:ings?|ers?|e[sd]|s)$/, "");
  return stem.length >= 3 ? stem.replace(/e$/, "") : word;
}

/**
 * Returns the part of a text around the first word that occurs in it.
 *
 * @param {string} text
 * @param {string[]} words
 */
export function createExcerpt(text, words) {
  const lower = text.toLowerCase();
  const found = words.map((word) => lower.search(createPattern(word))).filter((index) => index >= 0);
  const first = found.length === 0 ? 0 : Math.min(...found);
  const start = first <= EXCERPT_LEAD ? 0 : text.indexOf(" ", first - EXCERPT_LEAD) + 1;
  const end = start + EXCERPT_LENGTH;
  return (start > 0 ? "…" : "") + text.slice(start, end) + (end < text.length ? "…" : "");
}
