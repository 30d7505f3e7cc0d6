// Decisions of a bundle in Node.js, by the rule of docs/formats.md:
//
//   npm ci --ignore-scripts
//   node decide.mjs BUNDLE < prompts.jsonl      a JSON string a line in, {"choice", "config"} a line out
//
// For texts without a task, with everything allowed, at the dial's first point. The digests of the bundle's files are
// not checked here: load it once in Python where it comes from elsewhere.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import ort from "onnxruntime-node";

const HEAD = 6000, TAIL = 2000, WORD = 200; // characters, which are code points

/** The text, or head and tail of one of more than 8,000 characters, without the words that the cuts fall into. */
function cut(text) {
  const all = Array.from(text);
  if (all.length <= HEAD + TAIL) return text;
  let head = all.slice(0, HEAD), tail = all.slice(-TAIL);
  const blank = (c) => /[\p{White_Space}\x1c-\x1f]/u.test(c);
  const isCut = (c) => c === " " || c === "\n";
  if (!blank(all[HEAD])) {
    const at = head.findLastIndex((c, i) => i >= HEAD - WORD && isCut(c));
    if (at >= 0) head = head.slice(0, at);
  }
  if (!blank(all[all.length - TAIL - 1])) {
    const at = tail.findIndex((c, i) => i < WORD && isCut(c));
    if (at >= 0) tail = tail.slice(at);
  }
  return `${head.join("")} ${tail.join("")}`;
}

// Han characters are words of their own. The ranges are those of the tokenizers library.
const HAN = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** The steps of a normalizer of tokenizer.json, in their order. */
const NORMALIZERS = {
  Sequence: (text, part) => part.normalizers.reduce(normalize, text),
  Replace: (text, part) => text.replace(new RegExp(part.pattern.Regex, "gu"), () => part.content),
  BertNormalizer: (text, part) => {
    if (part.clean_text) {
      // Control characters and unreadable ones go, but for tab and line ends, which are blanks.
      text = text.replace(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\p{White_Space}/gu, " ");
    }
    if (part.handle_chinese_chars) text = text.replace(HAN, " $& ");
    if (part.strip_accents ?? part.lowercase) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    // One character at a time: a sigma that ends a word is no other sigma.
    return part.lowercase ? Array.from(text, (c) => c.toLowerCase()).join("") : text;
  },
};

function normalize(text, part) {
  return part === null ? text : NORMALIZERS[part.type](text, part);
}

/** Words: blanks part them, and each mark of punctuation is one. */
function split(text) {
  return text.match(/[\p{P}$+<=>^`|~]|[^\p{White_Space}\p{P}$+<=>^`|~]+/gu) ?? [];
}

/** The ids of a word's pieces, the longest first; the one unknown token where it is too long or cannot be parted. */
function piece(word, model) {
  const chars = Array.from(word), unknown = [model.vocab[model.unk_token]], ids = [];
  if (chars.length > model.max_input_chars_per_word) return unknown;
  for (let start = 0; start < chars.length; ) {
    let end = chars.length, id;
    for (; end > start; end--) {
      const part = (start > 0 ? model.continuing_subword_prefix : "") + chars.slice(start, end).join("");
      if (Object.hasOwn(model.vocab, part)) { id = model.vocab[part]; break; }
    }
    if (id === undefined) return unknown;
    ids.push(id);
    start = end;
  }
  return ids;
}

/** A text to the graph's inputs. */
function encode(text, tokenizer, encoder) {
  const whole = text.replace(/\p{Surrogate}/gu, "?"); // half a character
  let ids = split(normalize(cut(whole), tokenizer.normalizer)).flatMap((word) => piece(word, tokenizer.model));
  if (encoder.inputs === "window") {
    const tail = Math.floor(encoder.window / 4);
    if (ids.length > encoder.window) ids = [...ids.slice(0, encoder.window - tail), ...ids.slice(ids.length - tail)];
    ids = [...encoder.before, ...ids, ...encoder.after];
  }
  const shown = ids.length > 0 ? ids : [0]; // an empty axis is no input: one masked id instead
  const shape = [1, shown.length];
  return {
    ids: new ort.Tensor("int64", BigInt64Array.from(shown, BigInt), shape),
    mask: new ort.Tensor("uint8", new Uint8Array(shown.length).fill(ids.length > 0 ? 1 : 0), shape),
  };
}

const [folder] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));
const manifest = read("policy.json"), tokenizer = read("tokenizer.json");
const session = await ort.InferenceSession.create(join(folder, "policy.onnx"), { intraOpNumThreads: 1, interOpNumThreads: 1 });
for await (const line of createInterface({ input: process.stdin })) {
  const inputs = encode(JSON.parse(line), tokenizer, manifest.encoder);
  if (session.inputNames.includes("task")) inputs.task = new ort.Tensor("int64", [0n], [1]);
  const { choice } = await session.run(inputs, ["choice"]);
  const number = Number(choice.data[0]);
  console.log(JSON.stringify({ choice: number, config: manifest.space[number] }));
}
