"use strict";
// Everything that comes from the document or from a response becomes text, never markup.
const api = JSON.parse(document.getElementById("document").textContent);
const $ = (id) => document.getElementById(id);
const METHODS = ["get", "put", "post", "patch", "delete", "head", "options"];
const DEEPEST = 6;

function make(tag, text, attributes = {}, ...children) {
  const found = document.createElement(tag);
  if (text) found.textContent = text;
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

function resolved(schema) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? api.components.schemas[name] || {} : schema || {};
}

function example(given, depth = 0) {
  const schema = resolved(given);
  if (depth > DEEPEST) return null;
  for (const key of ["default", "const"]) if (key in schema) return schema[key];
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  const choice = schema.anyOf || schema.oneOf || schema.allOf;
  if (choice) return example(choice.find((each) => each.type !== "null") || choice[0], depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object" || schema.properties) {
    const found = {};
    for (const [name, each] of Object.entries(schema.properties || {})) found[name] = example(each, depth + 1);
    return found;
  }
  if (type === "array") {
    if (schema.prefixItems) return schema.prefixItems.map((each) => example(each, depth + 1));
    return schema.items ? [example(schema.items, depth + 1)] : [];
  }
  if (type === "integer" || type === "number") return schema.minimum || 0;
  if (type === "boolean") return false;
  if (type === "string") return { "date-time": "2026-01-01T00:00:00Z", date: "2026-01-01", uuid: "00000000-0000-4000-8000-000000000000" }[schema.format] || "";
  return null;
}

const credentials = {};
function askCredentials() {
  const schemes = Object.entries((api.components || {}).securitySchemes || {});
  if (!schemes.length) return $("credentials").remove();
  for (const [name, scheme] of schemes) {
    const input = make("input", "", { type: "password", autocomplete: "off", class: "value" });
    input.addEventListener("input", () => { credentials[name] = input.value; });
    $("credentials").lastElementChild.append(make("label", `${name} (${scheme.name || scheme.scheme})`, {}, input));
  }
}

function addCredentials(operation, headers) {
  for (const requirement of operation.security || []) {
    for (const name of Object.keys(requirement)) {
      const scheme = api.components.securitySchemes[name];
      if (!credentials[name]) continue;
      if (scheme.type === "http") headers.Authorization = `Bearer ${credentials[name]}`;
      else headers[scheme.name] = credentials[name];
      return;
    }
  }
}

function quoted(text) { return `'${text.replaceAll("'", `'\\''`)}'`; }

function fields(operation, form) {
  const found = [];
  for (const each of operation.parameters || []) {
    const input = make("input", "", { class: "value", autocomplete: "off", placeholder: resolved(each.schema).type || "" });
    if (each.required) input.required = true;
    if (each.schema && each.schema.default !== undefined && each.schema.default !== null) input.placeholder = String(each.schema.default);
    form.append(make("label", `${each.name} (${each.in}${each.required ? "" : ", optional"})`, {}, input));
    found.push([each, input]);
  }
  return found;
}

function requested(path, method, operation, inputs, body) {
  let url = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [each, input] of inputs) {
    if (input.value === "" && each.in !== "path") continue;
    if (each.in === "path") url = url.replace(`{${each.name}}`, () => encodeURIComponent(input.value));
    else if (each.in === "query" && resolved(each.schema).type === "array") input.value.split(",").forEach((part) => query.append(each.name, part.trim()));
    else if (each.in === "query") query.append(each.name, input.value);
    else headers[each.name] = input.value;
  }
  addCredentials(operation, headers);
  const found = { method: method.toUpperCase(), headers };
  if (body) { headers["Content-Type"] = body.kind; found.body = body.input.value; }
  const text = query.toString();
  return [text ? `${url}?${text}` : url, found];
}

function asCurl(url, request) {
  const parts = ["curl", "-X", request.method, quoted(new URL(url, location.href).href)];
  for (const [name, value] of Object.entries(request.headers)) parts.push("-H", quoted(`${name}: ${value}`));
  if (request.body !== undefined) parts.push("--data-raw", quoted(request.body));
  return parts.join(" ");
}

async function send(url, request, output) {
  const began = performance.now();
  output.replaceChildren(make("p", "…"));
  try {
    const response = await fetch(url, request);
    const text = await response.text();
    const line = `${response.status} ${response.statusText} in ${Math.round(performance.now() - began)} ms`;
    const kind = response.headers.get("content-type") || "";
    let shown = text;
    try { if (kind.includes("json")) shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is shown as it came */ }
    output.replaceChildren(make("p", line, response.ok ? {} : { class: "wrong" }), make("pre", [...response.headers].map((pair) => pair.join(": ")).join("\n")));
    if (shown) output.append(make("pre", shown));
  } catch (error) {
    output.replaceChildren(make("p", String(error), { class: "wrong" }));
  }
}

function card(path, method, operation) {
  const form = make("form", "", { class: "inside" });
  if (operation.description) form.append(make("p", operation.description, { class: "prose" }));
  const inputs = fields(operation, form);
  let body = null;
  const content = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  if (content) {
    const [kind, media] = content;
    const input = make("textarea", "", { spellcheck: "false", class: "value" });
    input.value = kind === "application/json" ? JSON.stringify(example(media.schema), null, 2) : "";
    body = { kind, input };
    form.append(make("label", `Body (${kind})`, {}, input));
  }
  const command = make("pre", "", { "aria-label": "The same with curl" });
  const output = make("div", "", { "aria-live": "polite", class: "answer" });
  const refresh = () => { command.textContent = asCurl(...requested(path, method, operation, inputs, body)); };
  form.append(command, make("button", "Send", { type: "submit" }), output);
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    refresh();
    send(...requested(path, method, operation, inputs, body), output);
  });
  const summary = make("summary", "", {}, make("span", method, { class: "method" }), make("span", path, { class: "path" }), make("span", operation.summary || "", { class: "said" }));
  const details = make("details", "", {}, summary, form);
  details.addEventListener("toggle", refresh);
  const found = make("article", "", {}, details);
  found.words = [method, path, operation.summary, operation.operationId, operation.description].join(" ").toLowerCase();
  return found;
}

$("title").textContent = api.info.title;
$("version").textContent = api.info.version;
askCredentials();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const method of METHODS) if (methods[method]) $("operations").append(card(path, method, methods[method]));
}
if (!$("operations").children.length) $("operations").append(make("p", "There are no routes: decorate a function with @route."));
$("find").addEventListener("input", (event) => {
  const word = event.target.value.toLowerCase();
  for (const each of $("operations").children) each.hidden = Boolean(each.words) && !each.words.includes(word);
});
