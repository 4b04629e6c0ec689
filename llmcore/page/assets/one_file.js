// The page in one file: the model is inside, and nothing is fetched.

import { element } from "./dom.js";
import { ExplainView } from "./explain_view.js";
import { GenerateView } from "./generate_view.js";
import { LocalSource } from "./local_source.js";
import { newModel } from "./model.js";
import { readTensors } from "./tensors.js";
import { Tokenizer } from "./tokenizer.js";

const data = JSON.parse(document.getElementById("data").textContent);
const tensors = readTensors(document.getElementById("weights").textContent, data.shapes);
const source = new LocalSource(newModel(data.config, tensors), new Tokenizer(data.tokenizer));
const explain = new ExplainView(source);
const generate = new GenerateView(source, "Mia and Tom", (text, inspected) => explain.update(text, inspected));
document.querySelector("main").append(generate.element, element("h2", {}, "Inside the model"), explain.element);
generate.refresh();
globalThis.llmcore = { source }; // for the console: (await llmcore.source.inspect("Mia and Tom")).tokens
