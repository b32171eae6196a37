// Drives the page in a Chromium: the page is served on an origin of its own (CLIENT_PORT), and does what CLIENT_TASK says at
// OTEL_EXPORTER_OTLP_ENDPOINT. The last line is one of JSON: what the SDK complained of, or the answers as the page saw them.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { chromium } from 'playwright-core';

const { CLIENT_TASK: task, CLIENT_RUN: run, CLIENT_PORT: port, CLIENT_PAGE: bundle, CLIENT_TOKEN: token, CLIENT_BODY_BYTES: size, OTEL_EXPORTER_OTLP_ENDPOINT: base } = process.env;
const program = ['chromium', 'chromium-browser', 'google-chrome'].map((name) => { try { return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(); } catch { return ''; } }).find(Boolean);

const script = readFileSync(bundle);
const server = http.createServer((request, answer) => {
  const page = request.url === '/';
  answer.writeHead(200, { 'content-type': page ? 'text/html; charset=utf-8' : 'text/javascript; charset=utf-8' });
  answer.end(page ? '<!doctype html><title>a shop</title><script src="/page.js"></script>' : script);
}).listen(Number(port), '127.0.0.1');
await new Promise((ready) => server.once('listening', ready));

const browser = await chromium.launch({ executablePath: program, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
const began = performance.now();
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
// A request that the browser makes by itself is seen on its own protocol only.
const preflights = [];
const devtools = await context.newCDPSession(page);
devtools.on('Network.requestWillBeSent', ({ request }) => request.method === 'OPTIONS' && preflights.push(request.url));
await devtools.send('Network.enable');
await page.goto(`http://localhost:${port}/`);

const headers = token ? { authorization: `Bearer ${token}` } : {};
const ask = (path, with_, body) => page.evaluate(([url, headers, body]) => window.ask(url, headers, body), [base + path, { 'content-type': 'application/json', ...headers, ...with_ }, body]);
const said = {};
if (task === 'everything') {
  said.errors = await page.evaluate(([base, headers, run]) => window.send(base, headers, run), [base, headers, run]);
} else {
  said.errors = [];
  said.answers = {
    taken: await ask('/v1/traces', {}, '{}'),
    nobody: await ask('/v1/traces', { authorization: 'Bearer nobody' }, '{}'),
    broken: await ask('/v1/logs', {}, '{"resourceLogs":'),
    strange: await ask('/v1/logs', { 'content-type': 'text/plain' }, 'x'),
    large: await ask('/v1/metrics', {}, ' '.repeat(Number(size ?? 0)) + '{}'),
    spans: await ask('/v1/traces', {}, JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [{ name: 'a', traceId: '0'.repeat(31) + '1', spanId: '0'.repeat(15) + '1' }] }] }] })),
  };
}
said.preflights = preflights;
console.log(JSON.stringify({ client: 'page', version: browser.version(), seconds: (performance.now() - began) / 1000, ...said }));
await browser.close();
server.close();
