// The page: images in, answers out. Text from files and answers is set as text, never as markup.

import { Fault, ask, send, useToken } from "/static/api.js";
import { dropped, usable } from "/static/files.js";
import { Picture } from "/static/picture.js";

const AT_ONCE = 8;
const $ = (id) => document.getElementById(id);
const images = []; // { file, name, answer, fault, picture, heat, alike }
let about = null, current = -1, overlayOn = false;

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (name) made.className = name;
  return made;
}

// --- the model ---

async function meet() {
  try {
    about = await ask("/metadata");
    if (about.gallery.state === "reading") setTimeout(awaitGallery, 2000);
  } catch (fault) {
    $("model").textContent = fault.message;
    $("token-form").hidden = fault.status !== 401;
    $("drop").hidden = fault.status === 401;
    if (fault.status === 401) $("token").focus();
    return;
  }
  $("token-form").hidden = true;
  $("drop").hidden = false;
  const { model, test } = about;
  $("model").textContent = `${model.name}, ${model.image_size}x${model.image_size}, classes: ${about.classes.join(", ")}`;
  $("standing").hidden = false;
  $("level").textContent = test.level === null ? "Test not known" : `Evidence level ${test.level}: ${test.name}`;
  $("level").title = test.meaning;
  $("score").replaceChildren(...scoreOf(test));
  $("calibration").textContent = `${about.calibration_in_words} ${about.abstention_in_words}`;
  describe();
}

// Some warnings need the run's own images: what was scored before they were read is scored again.
async function awaitGallery() {
  about = await ask("/metadata").catch(() => about);
  if (about.gallery.state === "reading") return setTimeout(awaitGallery, 2000);
  const early = images.filter((image) => image.answer);
  for (let start = 0; start < early.length; start += AT_ONCE) await score(early.slice(start, start + AT_ONCE));
}

function scoreOf({ headline, struck }) {
  if (!headline) return [];
  if (headline.value === null) return [element("span", `${headline.name} is withheld: too few patients.`)];
  const value = headline.value.toFixed(3);
  const interval = headline.low === null ? "" : ` (${headline.low.toFixed(3)} to ${headline.high.toFixed(3)})`;
  const number = element(struck ? "s" : "b", value + interval);
  const parts = [element("span", `${headline.name} `), number, element("span", `, ${headline.counted}`)];
  if (struck) parts.push(element("span", `. Does not hold: ${struck}`));
  return parts;
}

function describe() {
  const { test } = about;
  const facts = [
    ["Tested", `${test.name}. ${test.meaning}${test.struck ? ` The score does not hold: ${test.struck}` : ""}`],
    ["Score", scoreOf(test).map((part) => part.textContent).join("") + (test.headline?.value === null ? ` ${test.headline.reason}` : "") || "not in a bundle"],
    ["Audit", { PASS: "nothing found", WARN: "warns; see the run's report", FAIL: "a check fails; see the run's report" }[test.audit] || "none with this model"],
    ["Scores", about.calibration_in_words],
    ["Saying nothing", about.abstention_in_words],
    ["Threshold", about.calling_in_words],
    ["Heat maps", about.explanation.sentence],
    ["Unlike training", about.novelty.reason ? `Only files are compared: ${about.novelty.reason}.` : `Compared with ${about.novelty.n_reference} training images by the model's own features.`],
    ["Preparation", about.preprocessing_in_words],
    ["Trained on", `${about.training.training_images} images`],
    ["Weights", `SHA-256 ${about.weights_sha256.slice(0, 16)}…`],
  ];
  $("about-facts").replaceChildren(...facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  $("card").textContent = about.card;
}

// --- images in ---

async function add(files) {
  if (!files.length) return say("There is no file in what was given.");
  const added = files.map((file) => ({ file, name: file.name }));
  const first = images.length;
  images.push(...added);
  document.body.classList.add("has-images");
  $("desk").hidden = false;
  list();
  show(first);
  for (let start = 0; start < added.length; start += AT_ONCE) {
    say(`Scoring ${start + 1} of ${added.length} …`);
    if (!(await score(added.slice(start, start + AT_ONCE)))) return;
  }
  const refused = added.filter((image) => image.fault).length;
  say(`${added.length - refused} scored${refused ? `, ${refused} could not be read` : ""}.`);
}

async function score(some) {
  try {
    const found = await send("/predict", some.map((image) => image.file));
    for (const answer of found.predictions) some[answer.index].answer = answer;
    for (const fault of found.refused) some[fault.index].fault = fault;
  } catch (fault) {
    if (some.length > 1 && [413, 422].includes(fault.status)) {
      for (const image of some) await score([image]);
      return true;
    }
    for (const image of some) image.fault = fault instanceof Fault ? { code: fault.code, detail: fault.message } : fault;
    if (!fault.status || fault.status === 401) {
      say(fault.message);
      list();
      show(current);
      if (fault.status === 401) meet();
      return false;
    }
  }
  list();
  if (some.includes(images[current])) show(current);
  return true;
}

function say(sentence) {
  $("progress").textContent = sentence;
}

// --- the list ---

function short(image) {
  if (image.fault) return `not read: ${image.fault.code}`;
  if (!image.answer) return "waiting …";
  const { answer } = image;
  if (answer.abstains) return answer.set.length ? `no answer: ${answer.set.join(" or ")}` : "no answer: none of its classes";
  return `${answer.predicted} ${answer.scores[answer.predicted].toFixed(2)}`;
}

function list() {
  $("images-title").textContent = `${images.length} ${images.length === 1 ? "image" : "images"}`;
  $("list").replaceChildren(
    ...images.map((image, index) => {
      const item = element("li"), button = element("button");
      button.type = "button";
      button.append(element("span", image.name, "what"));
      if (image.answer?.warnings.length) {
        const mark = element("span", "⚠", "mark");
        mark.setAttribute("role", "img");
        mark.setAttribute("aria-label", "with warnings");
        button.append(mark);
      }
      button.append(element("span", short(image), "said"));
      button.title = image.name;
      button.setAttribute("aria-current", String(index === current));
      button.addEventListener("click", () => show(index));
      item.append(button);
      return item;
    }),
  );
}

// --- one image ---

function show(index) {
  current = index;
  const image = images[index];
  if (!image) return;
  [...$("list").children].forEach((item, at) => item.firstChild.setAttribute("aria-current", String(at === index)));
  $("list").children[index]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("name").textContent = image.name;
  answer(image);
  draw(image);
  if (image.answer) look(image);
}

function answer(image) {
  const found = image.answer, warnings = found?.warnings || [];
  $("warnings").hidden = !warnings.length;
  $("warnings").replaceChildren(...warnings.map(({ text }) => element("li", text)));
  $("words").textContent = image.fault ? `${image.fault.detail} (${image.fault.code})` : found ? found.words : "Waiting for the model …";
  $("scores").hidden = $("calibration").hidden = !found;
  for (const id of ["alike", "alike-said"]) $(id).replaceChildren();
  $("facts").textContent = "";
  if (!found) return;
  const rules = about?.abstention.classes || {};
  $("scores-caption").textContent = found.set ? "Scores; ✓ may be it, the line is where that begins" : "Scores";
  const order = Object.entries(found.scores).sort((a, b) => b[1] - a[1]);
  $("scores").tBodies[0].replaceChildren(
    ...order.map(([name, value]) => {
      const row = element("tr"), heading = element("th", name), bar = element("td", "", "bar"), track = element("div", "", "track");
      heading.scope = "row";
      row.className = found.set?.includes(name) ? "held" : !found.set && name === found.predicted ? "highest" : "";
      const fill = element("i");
      fill.style.width = `${100 * value}%`;
      track.append(fill);
      if (rules[name] && found.set) {
        const line = element("b");
        line.style.left = `calc(${100 * rules[name].threshold}% - 1px)`;
        track.append(line);
      }
      bar.append(track);
      row.append(heading, element("td", value.toFixed(3), "number"), bar);
      return row;
    }),
  );
  const { format, bits, width, height, notes } = found.image;
  $("facts").textContent = `${format}, ${bits} bits, ${width}x${height}${notes.length ? `; ${notes.join(", ")}` : ""}`;
  if (image.alike) alike(image.alike);
}

// What takes longer than the answer, asked for the image that is looked at.
async function look(image) {
  const wanted = [
    ["picture", "/view", (view) => new Picture(view)],
    ["heat", "/explain", (heat) => heat],
    ["alike", "/neighbours", (near) => near],
  ].filter(([part]) => !image[part]);
  await Promise.all(
    wanted.map(async ([part, path, made]) => {
      try {
        const found = made(await send(path, [image.file]));
        // "Still being read" is worth asking again.
        if (part !== "alike" || found.state !== "reading") image[part] = found;
        else if (images[current] === image) alike(found);
      } catch (fault) {
        image[part] = { fault: fault.message };
      }
      if (images[current] !== image) return;
      if (part === "alike") image.alike && alike(image.alike);
      else draw(image);
    }),
  );
}

function alike(near) {
  $("alike-said").textContent = near.fault || near.reason ||
    `By their pixels, of ${near.compared}${near.known > near.compared ? ` out of ${near.known}` : ""} images the model learned from. Alike is not the same diagnosis.`;
  $("alike").replaceChildren(
    ...(near.images || []).map(({ label, split, correlation, picture }) => {
      const item = element("li"), shown = element("img");
      shown.src = `data:image/png;base64,${picture}`;
      shown.alt = `Training image, ${label ?? "no label"}, correlation ${correlation.toFixed(2)}`;
      item.append(shown, element("span", `${label ?? "no label"}`), element("span", `${correlation.toFixed(2)}${split === "train" ? "" : `, ${split}`}`, "muted"));
      return item;
    }),
  );
}

function draw(image) {
  const { picture, heat } = image, there = picture instanceof Picture;
  $("picture").hidden = !there;
  $("window-box").hidden = !there;
  $("no-picture").hidden = there;
  $("no-picture").textContent = image.fault ? "There is no picture to show." : picture?.fault || "Reading the picture …";
  if (there) {
    picture.draw($("picture"));
    $("picture").setAttribute("aria-label", `The image ${image.name}, window ${picture.words()}`);
    $("window-said").textContent = picture.words();
    $("window-level").value = picture.level;
    $("window-width").value = picture.span;
    $("window-invert").setAttribute("aria-pressed", String(picture.inverted));
    $("window-box").open ||= picture.most > 255;
  }
  overlay(there && heat && !heat.fault ? heat : null, heat);
}

function overlay(heat, told) {
  $("overlay").disabled = $("opacity").disabled = !heat;
  const on = Boolean(heat) && overlayOn;
  $("overlay").setAttribute("aria-pressed", String(on));
  $("layer").hidden = !on;
  if (on) {
    $("layer").src = `data:image/png;base64,${heat.layer}`;
    $("layer").style.opacity = $("opacity").value / 100;
    place();
  }
  $("opacity-said").textContent = `${$("opacity").value} %`;
  if (!told) $("verdict").textContent = "";
  else if (told.fault) $("verdict").textContent = told.fault;
  else {
    const trust = { passed: "can be believed as far as the check goes", failed: "must not be believed", unchecked: "was not checked" }[told.verdict];
    $("verdict").textContent = `${told.method} for “${told.explained}” ${trust} (${told.sentence.replace(/\.$/, "")}).`;
  }
}

// The canvas is letterboxed in its box: the layer must lie on the picture, not on the bars beside it.
function place() {
  const canvas = $("picture"), box = canvas.getBoundingClientRect(), stage = canvas.parentElement.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const width = canvas.width * scale, height = canvas.height * scale, { style } = $("layer");
  style.width = `${width}px`;
  style.height = `${height}px`;
  style.left = `${box.left - stage.left + (box.width - width) / 2}px`;
  style.top = `${box.top - stage.top + (box.height - height) / 2}px`;
}

// --- hands ---

const redraw = (change) => () => {
  const image = images[current];
  if (!(image?.picture instanceof Picture)) return;
  change(image.picture);
  draw(image);
};
const toggleOverlay = () => {
  if ($("overlay").disabled) return;
  overlayOn = !overlayOn;
  draw(images[current]);
};
const opacity = (step) => {
  if ($("opacity").disabled) return;
  $("opacity").value = Number($("opacity").value) + step;
  overlayOn = true;
  draw(images[current]);
};
const fitWindow = redraw((picture) => picture.fit());
const modelWindow = redraw((picture) => picture.asModel());
const invert = redraw((picture) => (picture.inverted = !picture.inverted));
const isDark = () =>
  (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const theme = () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  $("theme").setAttribute("aria-pressed", String(isDark()));
};
const step = (by) => images.length && show(Math.max(0, Math.min(images.length - 1, current + by)));

$("theme").setAttribute("aria-pressed", String(isDark()));
$("theme").addEventListener("click", theme);
$("overlay").addEventListener("click", toggleOverlay);
$("opacity").addEventListener("input", () => opacity(0));
$("window-auto").addEventListener("click", fitWindow);
$("window-model").addEventListener("click", modelWindow);
$("window-invert").addEventListener("click", invert);
for (const id of ["window-level", "window-width"])
  $(id).addEventListener("input", redraw((picture) => picture.slide(Number($("window-level").value), Number($("window-width").value))));
$("about-open").addEventListener("click", () => $("about").showModal());
$("about-close").addEventListener("click", () => $("about").close());
$("choose").addEventListener("click", () => $("files").click());
$("choose-folder").addEventListener("click", () => $("folder").click());
for (const id of ["files", "folder"])
  $(id).addEventListener("change", (event) => {
    const files = usable(event.target.files);
    event.target.value = "";
    add(files);
  });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value);
  meet();
});
addEventListener("resize", () => !$("layer").hidden && place());
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(await dropped(event.dataTransfer));
});

const KEYS = {
  ArrowRight: () => step(1), ArrowDown: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => step(-1),
  o: toggleOverlay, "[": () => opacity(-10), "]": () => opacity(10),
  f: fitWindow, m: modelWindow, i: invert, d: theme,
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("about").open) return;
  if (event.target.matches("input[type=password], input[type=range]") && (event.key.startsWith("Arrow") || event.target.type === "password")) return;
  const hand = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!hand) return;
  event.preventDefault();
  hand();
});

meet();
