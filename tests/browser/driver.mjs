// Drives a browser for tests/e2e/support/browser.rs: a command a line on stdin, its outcome a line on stdout.
//
// Commands are JSON, {"do": NAME, ...}; outcomes are {"value": ...} or {"error": "..."}. The browser ends with stdin.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [executablePath, width, height] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  // Its sandbox cannot be had as root, nor in many containers; it shows our own page alone.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const page = await browser.newPage({
  viewport: { width: Number(width), height: Number(height) },
  reducedMotion: "reduce",
});

const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) complaints.push(message.text());
});

const commands = {
  open: ({ address }) => page.goto(address).then(() => null),
  address: () => page.url(),
  value: ({ expression }) => page.evaluate(expression),
  hover: ({ selector }) => page.hover(selector),
  click: ({ selector }) => page.click(selector),
  type: ({ text }) => page.keyboard.type(text),
  press: ({ key }) => page.keyboard.press(key),
  resize: (size) => page.setViewportSize(size),
  screenshot: ({ file }) => page.screenshot({ path: file }).then(() => null),
  complaints: () => complaints.splice(0),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let outcome;
  try {
    outcome = { value: (await commands[command.do](command)) ?? null };
  } catch (error) {
    outcome = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
await browser.close();
