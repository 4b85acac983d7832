// How HTTP clients send the same requests: each with headers, a framing and an idea of an empty
// body of its own.
'use strict';
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const run = promisify(execFile);

const json = 'application/json', form = 'application/x-www-form-urlencoded';
const requests = [
  ['GET', '/'],
  ['GET', '/list?x%5B%5D=1&x%5B%5D=2&filter%5Bmethod%5D=card'],
  ['HEAD', '/data'],
  ['OPTIONS', '/data'],
  ['GET', '/static/%40angular/core.js'],
  ['GET', '/files/annual%20report%202026.pdf', { accept: 'application/pdf' }],
  ['GET', '/search?q=_method%3DDELETE&payment_method=card'],
  ['GET', '/film.bin', { range: 'bytes=100-199', 'if-range': '"x"' }],
  ['GET', '/data', { 'if-none-match': '"x"', 'cache-control': 'max-age=0' }],
  ['GET', '/data', { 'content-type': json, accept: 'application/vnd.api+json', 'x-payment-method': 'card' }],
  ['GET', '/data?empty-body', {}, ''],
  ['GET', '/graphql?query=query%20Q%20%7B%20a%20%7D', { accept: 'application/graphql-response+json' }],
  ['POST', '/graphql', { 'content-type': json }, '{"query":"query Q { echo(x: \\"mutation\\") }","operationName":"Q","variables":{}}'],
  ['POST', '/search', { 'content-type': json }, '{"text":"run \\u0060make\\u0060","payment_method":"card","_links":{}}'],
  ['POST', '/search', { 'content-type': form }, 'method=card&shipping_method=dhl&q=_method%3DDELETE&note=a+%22_method%22'],
  ['POST', '/search', { 'content-type': json }, '{"text":" methodical","q":"-method","m":"_method"}', true],
  ['POST', '/notes/caf%C3%A9', { 'content-type': 'application/vnd.api+json' }, '{"data":{"type":"notes","attributes":{"text":"x"}}}'],
  ['POST', '/webhooks/any', { 'content-type': json }, '{"event":"payment.captured","data":{"method":"card"}}'],
  ['POST', '/webhooks/empty', {}, ''],
  ['POST', '/webhooks/empty-in-chunks', {}, '', true],
  ['POST', '/login', { 'content-type': form }, 'user=ada&password=x%26_method%3DPUT'],
  ['PUT', '/uploads/a.bin', { 'content-type': 'application/octet-stream' }, 'bytes that say _method=DELETE'],
  ['DELETE', '/uploads/a.bin'],
];

function plan(recorder, version = 1) {
  return requests.map(([method, target, headers = {}, body, chunked]) => ({ method, url: recorder.url('shop', version) + target, headers, body, chunked }));
}

function label(method, target) {
  if (target === '/graphql' || target.startsWith('/uploads/')) return { expect: { 'read-only': 'pass' } };
}

const tools = process.env.HONEST_TOOLS;

// external runs a program with the plan in a file. The program prints its name and version.
function external(title, version, command, ...args) {
  const drive = async (recorder) => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'plan-')), 'plan.json');
    fs.writeFileSync(file, JSON.stringify(plan(recorder, version)));
    const before = recorder.records.length;
    recorder.begin({ group: 'http', client: title, source: 'recorded: ', label });
    const { stdout } = await run(command, [...args, file]);
    for (const r of recorder.records.slice(before)) {
      r.client = stdout.trim();
      r.source = 'recorded: ' + r.client;
    }
    fs.rmSync(path.dirname(file), { recursive: true });
  };
  drive.title = title;
  return drive;
}

// each sends the requests one by one with a function. name is the client with its version.
function each(name, send, version = 1) {
  const drive = async (recorder) => {
    const client = typeof name === 'function' ? await name() : name;
    recorder.begin({ group: 'http', client, source: 'recorded: ' + client, label });
    for (const r of plan(recorder, version)) await send(r);
  };
  drive.title = typeof name === 'function' ? send.name : name;
  return drive;
}

const version = (name) => `${name} ${JSON.parse(fs.readFileSync(path.join(__dirname, 'node_modules', name, 'package.json'))).version}`;
const firstLine = (command) => async () => (await run(command, ['--version'])).stdout.split('\n')[0].replace(/ \(.*/, '').replace(/ built on.*/, '');

const curl = (...options) => async function curl({ method, url, headers, body, chunked }) {
  const args = ['-sS', '-o', '/dev/null', '--globoff', ...options, ...(method === 'HEAD' ? ['--head'] : ['-X', method])];
  for (const [k, v] of Object.entries(headers)) args.push('-H', `${k}: ${v}`);
  if (chunked && !options.length) args.push('-H', 'Transfer-Encoding: chunked');
  if (body !== undefined) args.push('--data-binary', body);
  await run('curl', [...args, url]);
};

async function wget({ method, url, headers, body }) {
  const args = ['-q', '--tries=1', '--timeout=5', '-O', '/dev/null', '--content-on-error', `--method=${method}`];
  for (const [k, v] of Object.entries(headers)) args.push(`--header=${k}: ${v}`);
  if (body !== undefined) args.push(`--body-data=${body}`);
  await run('wget', [...args, url]).catch((e) => { if (![4, 8].includes(e.code)) throw e; }); // 304 and the like
}

async function httpie({ method, url, headers, body }) {
  const args = ['--ignore-stdin', '--print=h', method, url, ...Object.entries(headers).map(([k, v]) => `${k}:${v}`)];
  if (body !== undefined) args.push('--raw', body);
  await run(tools + '/python/bin/http', args);
}

function nodeHttp({ method, url, headers, body, chunked }) {
  return new Promise((done, fail) => {
    const req = http.request(url, { method, headers }, (res) => res.resume().on('end', done)).on('error', fail);
    if (body !== undefined && !chunked) req.setHeader('content-length', Buffer.byteLength(body));
    if (chunked) req.write(body);
    req.end(chunked ? undefined : body);
  });
}

// fetch must not send a body with GET, not even an empty one.
const bodyOf = ({ method, body }) => (method === 'GET' || method === 'HEAD' ? undefined : body);
const viaFetch = (f) => async (r) => (await f(r.url, { method: r.method, headers: r.headers, body: bodyOf(r) })).arrayBuffer();

const drivers = [
  each(firstLine('curl'), curl()),
  each(async () => (await firstLine('curl')()) + ' --http2', curl('--http2')),
  each(async () => (await firstLine('curl')()) + ' --http2-prior-knowledge', curl('--http2-prior-knowledge'), 2),
  each(firstLine('wget'), wget),
  each(async () => 'HTTPie ' + (await run(tools + '/python/bin/http', ['--version'])).stdout.trim(), httpie),
  ...['urllib', 'requests', 'niquests', 'httpx', 'aiohttp'].map((c) => external(c, 1, tools + '/python/bin/python', path.join(__dirname, 'clients/send.py'), c)),
  external('httpx2', 2, tools + '/python/bin/python', path.join(__dirname, 'clients/send.py'), 'httpx2'),
  each(`node:http of Node ${process.version}`, nodeHttp),
  each(`fetch of Node ${process.version}`, viaFetch(fetch)),
  each(version('undici'), async (r) => { const { request } = require('undici'); await (await request(r.url, { method: r.method, headers: r.headers, body: r.body })).body.dump(); }),
  each(version('node-fetch'), async (r) => viaFetch((await import('node-fetch')).default)(r)),
  each(version('axios'), async (r) => { await require('axios')({ method: r.method, url: r.url, headers: r.headers, data: r.body, validateStatus: () => true }); }),
  each(version('got'), async (r) => { await (await import('got')).default(r.url, { method: r.method, headers: r.headers, body: r.body, allowGetBody: true, throwHttpErrors: false }); }),
  each(version('ky'), async (r) => { await (await import('ky')).default(r.url, { method: r.method, headers: r.headers, body: bodyOf(r), throwHttpErrors: false }); }),
  each(version('superagent'), async (r) => { await require('superagent')(r.method, r.url).set(r.headers).send(r.body).ok(() => true); }),
  external('net/http', 1, tools + '/go', 'http'),
  external('net/http, HTTP/2', 2, tools + '/go', 'http2'),
  ...['jdk', 'jdk1', 'okhttp', 'apache'].map((c) => external(c, 1, 'java', '-cp', tools + '/java/*', path.join(__dirname, 'clients/Http.java'), c)),
  external('Net::HTTP', 1, 'ruby', path.join(__dirname, 'clients/send.rb')),
  external('libwww-perl', 1, 'perl', path.join(__dirname, 'clients/send.pl')),
  external('PHP', 1, 'php', path.join(__dirname, 'clients/send.php')),
];

module.exports = drivers;
