// The page of `llmcore serve`: a tab for each thing that its models can do.

import { ChatView } from "./chat_view.js";
import { ClassifyView } from "./classify_view.js";
import { element, uniqueId } from "./dom.js";
import { GenerateView } from "./generate_view.js";
import { InspectView } from "./inspect_view.js";
import { askKey } from "./key_dialog.js";
import { Server } from "./server.js";
import { ServerSource } from "./server_source.js";
import { Tabs } from "./tabs.js";

const EXAMPLE = "Mia and Tom";
const TASKS = {
  Generate: { kinds: ["text", "chat"], view: (source) => new GenerateView(source, EXAMPLE) },
  Chat: { kinds: ["chat"], view: (source) => new ChatView(source) },
  Classify: { kinds: ["classifier"], view: (source) => new ClassifyView(source) },
  Explain: { kinds: ["text", "chat"], view: (source) => new InspectView(source, EXAMPLE) },
};

// A choice of models with the view that uses the chosen one.
function panel(server, { view }, models) {
  const id = uniqueId("model");
  const options = models.map((model) => element("option", {}, model.id));
  const choice = element("select", { id, onchange: () => made.refresh() }, ...options);
  const made = view(new ServerSource(server, () => choice.value));
  const model = element("div", { class: "control model" }, element("label", { for: id }, "Model"), choice);
  return { view: made, element: element("div", {}, model, made.element) };
}

async function start(main) {
  const server = new Server(askKey);
  const models = await server.models();
  const usable = Object.entries(TASKS)
    .map(([title, task]) => [title, task, models.filter(({ kind }) => task.kinds.includes(kind))])
    .filter(([, , fitting]) => fitting.length);
  if (!usable.length) throw new Error("the server has no model");
  const panels = Object.fromEntries(usable.map(([title, task, fitting]) => [title, panel(server, task, fitting)]));
  const seen = new Set();
  const elements = Object.fromEntries(Object.entries(panels).map(([title, made]) => [title, made.element]));
  const onshow = (title) => seen.has(title) || (seen.add(title) && panels[title].view.refresh());
  main.replaceChildren(new Tabs(elements, onshow).element);
}

const main = document.querySelector("main");
start(main).catch((error) => main.replaceChildren(element("p", { role: "alert" }, `Error: ${error.message}`)));
