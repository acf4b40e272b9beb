// @ts-check
/** The routes of the server, from its own openapi.json: parameters, bodies, answers, and GETs to try. */

import { at, make, offerLooks } from "./dom.js";

/** Characters of an answer that are shown. */
const MOST_SHOWN = 20000;
/** How deep schemas within schemas are folded out; some hold themselves. */
const DEEPEST = 6;

/** @type {any} */
let api = null;

/** @param {any} schema @returns {any} what a reference stands for */
const resolved = (schema) => (schema?.$ref ? schema.$ref.slice(2).split("/").reduce((part, name) => part[name], api) : schema ?? {});

/** @param {any} schema @returns {string} its type in a few words */
function typeOf(schema) {
  if (schema?.$ref) return schema.$ref.split("/").pop();
  if (!schema) return "anything";
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" or ");
  if (schema.allOf) return schema.allOf.map(typeOf).join(" and ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return schema.prefixItems ? `[${schema.prefixItems.map(typeOf).join(", ")}]` : `list of ${typeOf(schema.items)}`;
  return schema.format ? `${schema.type}, ${schema.format}` : schema.type ?? "anything";
}

/** @param {any} schema @returns {any[]} the schemas with fields that it names, itself or within */
function within(schema) {
  if (!schema) return [];
  if (schema.$ref || schema.properties) return [schema];
  return [...(schema.anyOf ?? schema.oneOf ?? schema.allOf ?? []), schema.items, ...(schema.prefixItems ?? [])].flatMap(within);
}

/** @param {any} schema @param {number} depth @returns {Node | string} its fields as a table; fields of fields fold out */
function fields(schema, depth = 0) {
  const { properties, required = [], description } = resolved(schema);
  if (!properties) return make("p.quiet", {}, typeOf(schema), description ? `: ${description}` : "");
  const rows = Object.entries(properties).map(([name, field]) => {
    const inner = depth < DEEPEST ? within(field) : [];
    const limits = [["default", field.default], ["at least", field.minimum], ["at most", field.maximum ?? field.maxItems ?? field.maxLength]].filter(([, value]) => value !== undefined && value !== null);
    return make("tr", {}, make("th", { scope: "row" }, make("code", {}, name), required.includes(name) ? make("small.quiet", {}, " required") : ""),
      make("td", {}, make("span.type", {}, typeOf(field)), limits.map(([says, value]) => make("small.quiet", {}, ` ${says} ${JSON.stringify(value)}`)), field.description ? make("p", {}, field.description) : "",
        inner.map((one) => lazily(one.$ref ? one.$ref.split("/").pop() : "fields", () => fields(one, depth + 1)))));
  });
  return make("table", {}, make("tbody", {}, rows));
}

/** @param {string} name @param {() => Node | string} draw what is drawn when it is opened first */
function lazily(name, draw) {
  const fold = make("details", { ontoggle: () => { if (fold.childElementCount === 1) fold.append(draw()); } }, make("summary", {}, name));
  return fold;
}

/** @param {any} content of a body or an answer */
const bodies = (content) => Object.entries(content ?? {}).map(([type, { schema }]) => make("div", {}, make("p.quiet", {}, make("code", {}, type), ` ${typeOf(schema)}`), within(schema).map((one) => fields(one))));

/** @param {string} path @param {string} method @param {any} route */
function section(path, method, route) {
  const parameters = (route.parameters ?? []).map(resolved);
  const body = resolved(route.requestBody);
  const part = (title, /** @type {Node[]} */ nodes) => (nodes.length ? [make("h2", {}, title), ...nodes] : []);
  const inputs = new Map(parameters.map((one) => [one, make("input", { "aria-label": one.name, placeholder: one.schema?.default ?? (one.required ? "required" : ""), size: 18 })]));
  const table = make("table", {}, make("tbody", {}, parameters.map((one) => make("tr", {},
    make("th", { scope: "row" }, make("code", {}, one.name), make("small.quiet", {}, ` ${one.in}${one.required ? ", required" : ""}`)),
    make("td", {}, make("span.type", {}, typeOf(one.schema)), one.description ? make("p", {}, one.description) : ""),
    method === "get" ? make("td", {}, inputs.get(one)) : ""))));
  const answers = Object.entries(route.responses ?? {}).map(([status, one]) => make("div", {}, make("p", {}, make("strong", {}, status), ` ${resolved(one).description ?? ""}`), bodies(resolved(one).content)));
  return make("details.route", { id: `${method}-${path}`.replace(/[^a-z0-9]+/gi, "-"), "data-route": `${method} ${path}` },
    make("summary", {}, make("span.method", {}, method.toUpperCase()), make("code", {}, path), make("span.quiet", {}, route.summary ?? "")),
    make("div.inner", {}, route.description ? make("p.pre", {}, route.description) : "", part("Parameters", parameters.length ? [table] : []), part("Body", bodies(body?.content)),
      method === "get" ? attempt(path, inputs) : "", part("Answers", answers)));
}

/** A GET to try. @param {string} path @param {Map<any, HTMLInputElement>} inputs by parameter */
function attempt(path, inputs) {
  const shown = make("div.outcome", { role: "status" });
  const go = async () => {
    const given = [...inputs].filter(([, input]) => input.value);
    const missing = [...inputs].find(([one, input]) => one.required && !input.value);
    if (missing) return shown.replaceChildren(`“${missing[0].name}” is required.`);
    const filled = given.filter(([one]) => one.in === "path").reduce((text, [one, input]) => text.replace(`{${one.name}}`, encodeURIComponent(input.value)), path);
    const query = new URLSearchParams(given.filter(([one]) => one.in === "query").flatMap(([one, input]) => (typeOf(one.schema).includes("list") ? input.value.split(";") : [input.value]).map((value) => [one.name, value.trim()])));
    const address = filled + (query.size ? `?${query}` : "");
    shown.replaceChildren("Asking…");
    try {
      const answer = await fetch(address);
      shown.replaceChildren(make("p.quiet", {}, `${answer.status} `, make("code", {}, address)), await view(answer));
    } catch {
      shown.replaceChildren("The server does not answer. Is soundalike serve still running?");
    }
  };
  return make("div.try", {}, make("button.button.strong", { onclick: go }, "Try"), make("small.quiet", {}, inputs.size ? " several values of a list with ; between" : ""), shown);
}

/** @param {Response} answer @returns {Promise<Node>} a picture, a sound or text */
async function view(answer) {
  const type = answer.headers.get("Content-Type") ?? "";
  if (type.startsWith("image/")) return make("img", { src: URL.createObjectURL(await answer.blob()), alt: "The picture of the answer" });
  if (type.startsWith("audio/")) return make("audio", { src: URL.createObjectURL(await answer.blob()), controls: true });
  const text = await answer.text();
  const laid = type.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text;
  return make("pre", { tabindex: "0" }, laid.length > MOST_SHOWN ? `${laid.slice(0, MOST_SHOWN)}\n… ${laid.length - MOST_SHOWN} more characters` : laid);
}

async function begin() {
  offerLooks(at("look"));
  const state = at("state");
  try {
    const answer = await fetch("/api/openapi.json");
    if (!answer.ok) throw new Error(answer.status === 401 ? "This page is not let in: open the address that soundalike serve printed." : `The server answered ${answer.status}.`);
    api = await answer.json();
  } catch (error) {
    state.textContent = `The routes cannot be read. ${/** @type {Error} */ (error).message}`;
    return;
  }
  state.textContent = api.info.description ?? "All routes are below the address of this page, and want its cookie. Open one to see what it takes and gives.";
  at("about").textContent = `API of version ${api.info.version}`;
  const methods = new Set(["get", "post", "put", "patch", "delete"]);
  at("routes").append(...Object.entries(api.paths).flatMap(([path, routes]) => Object.entries(routes).filter(([method]) => methods.has(method)).map(([method, route]) => section(path, method, route))));
}

begin();
