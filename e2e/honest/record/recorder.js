// The recorder: a server that answers as the apps of testdata/apps.json would and keeps each
// request.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const path = require('node:path');
const { createHash } = require('node:crypto');
const { WebSocketServer } = require('ws');

// Each app has an address of its own, so that every client can reach it without a name server.
const apps = { shop: '127.0.0.1', other: '127.0.0.2', elastic: '127.0.0.3', live: '127.0.0.4', strict: '127.0.0.5' };
const appAt = { ...Object.fromEntries(Object.entries(apps).map(([name, ip]) => [ip, name])), [apps.other]: 'shop' }; // the shop of another origin
const exemptPosts = /^\/(webhooks(\/|$)|login$|collect(\/|$)|inbound(\/|$))/;
const exemptGets = /^\/(healthz$|readyz$|metrics$|\.well-known\/acme-challenge(\/|$)|static(\/|$)|inbound(\/|$))/;
const writeThrough = /^\/(search$|notes(\/|$)|uploads(\/|$)|repo\.git\/git-upload-pack$)/;

// expectation returns the verdict that an operator of the app expects of an honest request, by
// mode. It returns undefined if the app's rules do not say; then the driver has to.
function expectation(app, method, target) {
  const name = target.split('?')[0];
  if (app === 'shop' || app === 'strict') {
    // GET includes HEAD, and every method includes the preflight that announces it.
    const get = /^(GET|HEAD|OPTIONS)$/.test(method), post = /^(POST|OPTIONS)$/.test(method);
    if (app === 'shop' ? (post && exemptPosts.test(name)) || (get && exemptGets.test(name)) : post && name.startsWith('/webhooks')) {
      return { 'no-access': 'pass', 'read-only': 'pass' };
    }
    if (method === 'POST' && app === 'shop' && writeThrough.test(name)) return { 'read-only': 'pass' };
  }
  if (app === 'elastic' && method === 'POST' && /^\/(products\/_search|products\/_count|_search)/.test(name)) return { 'read-only': 'pass' };
  if (/^(GET|HEAD|OPTIONS)$/.test(method)) return { 'read-only': 'pass' };
  return undefined;
}

class Recorder {
  records = [];
  current = null;
  unlabelled = [];
  seen = new Map(); // the requests of a browser, for drivers that wait for them

  // begin names the client that sends the next requests. Further fields: expect and why, for
  // requests on which the app's rules do not decide, or a function label(method, target, headers)
  // that returns them.
  begin(label) { this.current = label; }

  async start() {
    this.h1 = http.createServer((req, res) => this.serve(req, res));
    this.h1.on('clientError', (_, socket) => socket.destroy());
    // WebSockets have a server of their own. Node treats every Upgrade as a WebSocket if there is a
    // listener for it, but clients also offer h2c and TLS in Upgrade, which a server may ignore
    // (RFC 9110 section 7.8).
    this.sockets = http.createServer();
    this.sockets.on('upgrade', (req, socket, head) => this.upgrade(req, socket, head));
    this.h2 = http2.createServer((req, res) => this.serve(req, res));
    this.h2.on('sessionError', () => {});
    for (const s of [this.h1, this.h2, this.sockets]) await new Promise((done) => s.listen(0, '0.0.0.0', done));
    this.ports = { 1: this.h1.address().port, 2: this.h2.address().port, socket: this.sockets.address().port };
    this.websockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] });
  }

  url(app = 'shop', version = 1) { return `http://${apps[app]}:${this.ports[version]}`; }

  stop() {
    for (const s of [this.h1, this.h2, this.sockets]) s.close();
    for (const s of [this.h1, this.sockets]) s.closeAllConnections();
  }

  clean(text) {
    // Stack traces contain paths of this machine.
    text = text.replaceAll(fs.realpathSync(__dirname), '/app').replaceAll(__dirname, '/app');
    for (const port of Object.values(this.ports)) {
      for (const [name, ip] of Object.entries(apps)) text = text.replaceAll(`${ip}:${port}`, `${name}.example.com`).replaceAll(`${ip}%3A${port}`, `${name}.example.com`);
    }
    return text;
  }

  record(req, body) {
    const app = appAt[req.socket.localAddress.replace('::ffff:', '')];
    if (!app || !this.current || req.url.startsWith('/.recorder/')) return;
    const headers = [];
    let framing = 'none';
    for (let i = 0; i < req.rawHeaders.length; i += 2) {
      const [name, value] = [req.rawHeaders[i], req.rawHeaders[i + 1]];
      if (/^(host|:method|:path|:authority|:scheme)$/i.test(name)) continue;
      if (/^transfer-encoding$/i.test(name)) framing = 'chunked';
      else if (/^content-length$/i.test(name)) framing = 'length';
      else headers.push([name, this.clean(value)]);
    }
    const { group, client, source, label } = this.current;
    const target = this.clean(req.url);
    let expect = this.current.expect, why = this.current.why;
    if (label) ({ expect, why } = label(req.method, target, Object.fromEntries(headers.map(([k, v]) => [k.toLowerCase(), v])), body) ?? {});
    expect ??= expectation(app, req.method, target);
    if (!expect) return this.unlabelled.push(`${client}: ${req.method} ${target} ${JSON.stringify(headers)} ${body.subarray(0, 300)}`);
    const record = { group, client, source, app, method: req.method, target };
    if (req.httpVersion === '2.0') {
      record.version = 'HTTP/2';
      if (framing === 'none' && !req.stream.endAfterHeaders) framing = 'data';
    }
    record.headers = headers;
    if (framing !== 'none') record.framing = framing;
    if (body.length) {
      const text = body.toString('utf8');
      if (Buffer.from(text).equals(body) && !/[\0-\x08\x0e-\x1f]/.test(text)) record.body = this.clean(text);
      else record.body_base64 = body.toString('base64');
    }
    record.expect = expect;
    if (why) record.why = why;
    this.records.push(record);
  }

  // add adds a request that was not sent here, but that the sender documents.
  add({ group, client, source, app = 'shop', method = 'POST', target, headers, body = '', expect, why }) {
    const buffer = Buffer.from(body);
    this.begin({ group, client, source, expect, why });
    const framing = method === 'GET' || method === 'HEAD' || method === 'OPTIONS' ? [] : ['content-length', String(buffer.length)];
    const socket = { localAddress: apps[app] };
    this.record({ method, url: target, httpVersion: '1.1', rawHeaders: [...headers.flat(), ...framing], socket }, buffer);
  }

  async serve(req, res) {
    const chunks = [];
    try {
      for await (const chunk of req) chunks.push(chunk);
    } catch {
      return; // aborted
    }
    const body = Buffer.concat(chunks);
    this.record(req, body);
    if (req.headers.origin) {
      res.setHeader('access-control-allow-origin', req.headers.origin);
      res.setHeader('access-control-allow-credentials', 'true');
    }
    if (req.method === 'OPTIONS') {
      res.setHeader('access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE');
      res.setHeader('access-control-allow-headers', req.headers['access-control-request-headers'] ?? '');
      res.setHeader('access-control-max-age', '0');
      res.writeHead(204);
      return res.end();
    }
    try {
      await this.answer(req, res, body);
    } catch (e) {
      console.error('answering', req.method, req.url, e);
      res.statusCode = 500;
      res.end();
    }
  }

  upgrade(req, socket, head) {
    this.record(req, Buffer.alloc(0));
    this.websockets.handleUpgrade(req, socket, head, (ws) => setTimeout(() => ws.close(), 100));
  }

  routes = []; // of drivers: functions (req, res, body) that return true if they answered

  async answer(req, res, body) {
    for (const route of this.routes) if (await route(req, res, body)) return;
    const name = req.url.split('?')[0];
    const etag = `"${createHash('sha256').update(name).digest('hex').slice(0, 8)}"`;
    res.setHeader('etag', etag);
    res.setHeader('last-modified', 'Tue, 24 Nov 2026 08:00:00 GMT');
    if (req.headers['if-none-match'] === etag || (req.headers['if-modified-since'] && !req.headers['if-none-match'])) {
      res.writeHead(304);
      return res.end();
    }
    const type = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.html': 'text/html', '.mp4': 'video/mp4', '.ogg': 'audio/ogg', '.bin': 'application/octet-stream' }[path.extname(name)];
    res.setHeader('content-type', type ?? 'application/json');
    if (type === 'video/mp4' || type === 'audio/ogg' || type === 'application/octet-stream') return media(req, res);
    res.end(type === 'text/html' ? '<!doctype html><title>.</title>' : type === 'image/svg+xml' ? '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>' : type ? '' : '{}');
  }

  // write puts each group into a file of its own, in the order in which it was sent. It leaves out
  // a request that differs from an earlier one of the same client only in what does not matter.
  write(dir) {
    const groups = new Map();
    const known = new Set();
    for (const r of this.records) {
      const key = JSON.stringify([r.group, r.client, r.app, r.method, r.target, r.version, r.framing, r.body ?? r.body_base64, r.headers]);
      if (known.has(key)) continue;
      known.add(key);
      groups.set(r.group, [...(groups.get(r.group) ?? []), r]);
    }
    for (const [group, records] of groups) fs.writeFileSync(path.join(dir, `${group}.json`), '[\n' + records.map(print).join(',\n') + '\n]\n');
    return groups;
  }
}

function print({ group, ...r }) {
  return ' {\n' + Object.entries(r).map(([k, v]) => `  ${JSON.stringify(k)}: ${JSON.stringify(v)}`).join(',\n') + '\n }';
}

const film = Buffer.alloc(3 << 20, 'drydock ');
function media(req, res) {
  if (req.method !== 'GET' && req.method !== 'HEAD') return res.end();
  res.setHeader('accept-ranges', 'bytes');
  const range = /^bytes=(\d*)-(\d*)$/.exec(req.headers.range ?? '');
  if (!range) {
    res.setHeader('content-length', film.length);
    return res.end(req.method === 'HEAD' ? undefined : film);
  }
  const first = range[1] ? +range[1] : film.length - +range[2];
  const last = range[1] && range[2] ? Math.min(+range[2], film.length - 1) : film.length - 1;
  res.writeHead(206, { 'content-range': `bytes ${first}-${last}/${film.length}`, 'content-length': last - first + 1 });
  res.end(film.subarray(first, last + 1));
}

module.exports = { Recorder, apps };
