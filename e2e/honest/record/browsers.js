// What browsers send: a page that acts without a user, and the pages to which it goes on.
'use strict';
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

// Names and queries of people, with text in them that looks like a disguise or an override.
const reads = [
  '/notes/caf%C3%A9', '/static/%40angular/core.js', '/files/annual%20report%202026.pdf', '/files/a%2Bb.txt', '/wiki/C++', '/wiki/100%25',
  '/items/%5Bdraft%5D', '/users/@me', "/it's/(fine)", '/a,b,c', '/~ada/', '/tags/c%23', '/%E6%97%A5%E6%9C%AC%E8%AA%9E/', '/emoji/%F0%9F%98%80.png',
  '/static/app.3f9a1c0b.min.js?v=1.2.3', '/static/chunk-vendors.8c4d77.legacy.js.map', '/static/i/%D0%BB%D0%BE%D0%B3%D0%BE.svg',
  '/static/img/photo%20(1).jpg', '/static/fonts/Inter%20Bold.woff2', '/static/en-US/strings.v2.json', '/cars;color=red;year=2026/list',
  '/v1/users:batchGet?ids=1&ids=2', '/list?x[]=1&x[]=2', '/list?filter[status]=open&filter[method]=card', '/search?q=_method', '/search?method=card',
  '/search?payment_method=card&shipping_method=dhl', '/search?q=a;b', '/search?q=%F0%9F%9B%B3', '/search?q=_method%3DDELETE', '/search?q=mutation+%7B+b+%7D',
  '/search?query=mutation%20%7B%20b%20%7D', '/redirect?to=https%3A%2F%2Fexample.com%2F%3F_method%3DDELETE', '/api?callback=jQuery123_456&_=1795593600000',
  '/login?next=%2Faccount%3Ftab%3Dmethods', '/index.php?route=product/product&product_id=40', '/orders.json', '/feed.xml', '/calendar.ics',
  '/report?from=2026-01-01T00:00:00%2B01:00&to=2026-02-01T00:00:00%2B01:00', '/?utm_source=news&utm_medium=e-mail&gclid=Cj0', '/.well-known/openid-configuration',
  '/search?q=', '/search?', '/page?a=1&amp;b=2', '/search?q=x%26y%3Dz', '/search?sort=-method', '/a/b/c/?trailing', '/graphql-docs/intro', '/api/graphql/schema.json',
  '/maps/tile/14/8802/5373@2x.png', '/price/%E2%82%AC100', '/download?file=..%2Freport.pdf', '/proxy?url=http%3A%2F%2Fx%2F%2Fy', '/docs/v1.2/index', '/static/.hidden',
  '/static/a%20b%20c.css', '/static/locales/zh_Hans-CN.json', '/static/lib@4.17.21/x.js', '/static/%E5%9B%BE.png', '/static/a+b.js', '/static/~vendor.js',
];

const page = (other, live, same) => `<!doctype html><html lang="en"><head><title>Start</title>
<link rel="icon" href="/static/favicon.svg"><link rel="manifest" href="/site.webmanifest"><link rel="stylesheet" href="/static/app.css">
<link rel="preload" href="/static/font.woff2" as="font" crossorigin><link rel="preload" href="/static/hero.svg" as="image"><link rel="preload" href="/api/session" as="fetch" crossorigin>
<link rel="modulepreload" href="/static/module.js"><link rel="prefetch" href="/next.html"><link rel="alternate" href="/feed.xml"><link rel="preconnect" href="${other}">
<script type="speculationrules">{"prefetch":[{"source":"list","urls":["/speculated.html"],"eagerness":"immediate"}],"prerender":[{"source":"list","urls":["/prerendered.html"],"eagerness":"immediate"}]}</script>
<style>@font-face{font-family:x;src:url(/static/Inter%20Bold.woff2)} body{font-family:x;background:url(/static/bg.svg)} @import url(/static/print.css) print;</style>
</head><body>text<img src="/static/logo.svg" srcset="/static/logo@2x.svg 2x"><img src="${other}/static/cross.svg" crossorigin="use-credentials"><img loading="lazy" src="/static/lazy.svg">
<video src="/video.mp4" preload="auto" muted></video><audio src="/audio.ogg" preload="auto"></audio><video poster="/poster.svg" preload="metadata"><source src="/clip.mp4" type="video/mp4"><track default src="/captions.vtt"></video>
<iframe src="/frame.html"></iframe><object data="/object.svg" type="image/svg+xml"></object><embed src="/embed.svg"><script src="/static/classic.js" async></script><script type="module" src="/static/module.js"></script>
<iframe name="forms"></iframe>
<form id="get" action="/search" target="forms"><input name="q" value="_method=DELETE &amp; more"><input name="payment_method" value="card"></form>
<form id="login" method="post" action="/login" target="forms"><input name="user" value="ada"><input name="password" value="p&amp;_method=DELETE"><input name="authenticity_token" value="x+/="></form>
<form id="sign" method="post" action="/inbound/signin" enctype="multipart/form-data" target="forms"><input name="user" value="ada"><input name="password" value="x"></form>
<form id="multipart" method="post" action="/login" enctype="multipart/form-data" target="forms"><input name="user" value="ada"><input name="password" value="x"></form>
<form id="plain" method="post" action="/inbound/contact" enctype="text/plain" target="forms"><textarea name="text">about a _method</textarea></form>
<form id="upload" method="post" action="/uploads/avatar" enctype="multipart/form-data" target="forms"><input name="title" value="Ünïcode"><input type="file" name="file"></form>
<form id="write" method="post" action="/orders" target="forms"><input name="item" value="1"></form>
<script>
const other = ${JSON.stringify(other)}, live = ${JSON.stringify(live)}, same = ${JSON.stringify(same)}, reads = ${JSON.stringify(reads)}, json = {'content-type': 'application/json'};
const sleep = (ms) => new Promise((f) => setTimeout(f, ms));
async function go(url, init) { try { const r = await fetch(url, init); await r.arrayBuffer(); } catch (e) { console.log(url, e); } }
function submit(id) { return new Promise((f) => { const frame = document.querySelector('[name=forms]'); frame.onload = f; document.getElementById(id).submit(); setTimeout(f, 2000); }); }
async function all() {
  for (const url of reads) await go(url);
  // Caches and ranges.
  await go('/data', {}); await go('/data', {cache: 'no-cache'}); await go('/data', {cache: 'reload'}); await go('/data', {cache: 'no-store'});
  await go('/film.bin', {headers: {range: 'bytes=0-99'}}); await go('/film.bin', {headers: {range: 'bytes=-500'}}); await go('/film.bin', {headers: {range: 'bytes=100-'}});
  await go('/data', {method: 'HEAD'}); await go('/static/app.css', {method: 'HEAD'}); await go('/data', {headers: {'if-none-match': '"x"'}}); await go('/data', {headers: {'if-modified-since': 'Tue, 24 Nov 2026 08:00:00 GMT'}});
  await go('/data', {credentials: 'include', priority: 'low', keepalive: true, referrerPolicy: 'unsafe-url'});
  await go('/data', {headers: {accept: 'application/vnd.api+json', 'content-type': 'application/vnd.api+json'}});
  await go('/data', {headers: {accept: 'text/event-stream'}}); await go('/data', {headers: {'x-requested-with': 'XMLHttpRequest', 'x-csrf-token': 'a/b+c=', 'x-shipping-method': 'dhl'}});
  await go('/data', {method: 'OPTIONS'});
  // Cross-origin: simple requests and preflights.
  await go(other + '/data'); await go(other + '/data', {mode: 'no-cors'}); await go(other + '/data', {credentials: 'include'});
  await go(other + '/data', {headers: {authorization: 'Bearer x'}}); await go(other + '/data', {headers: {'x-http-client': 'app', 'x-request-id': '1'}});
  await go(other + '/v1/items', {headers: json});
  for (const op of ['', '?op=GetUser', '?operationName=GetUser', '?GetUser', '?opname=GetUser&v=2']) await go(other + '/graphql' + op, {method: 'POST', headers: {...json, 'x-label': 'query'}, body: JSON.stringify({operationName: 'GetUser', variables: {}, query: 'query GetUser { a }'})});
  await go(other + '/graphql?query=' + encodeURIComponent('query GetUser { a }'), {headers: {...json, 'apollo-require-preflight': 'true'}});
  for (const method of ['PUT', 'PATCH', 'DELETE']) await go(other + '/orders/1', {method, headers: {...json, 'x-custom': '1', 'if-match': '"1"'}, body: '{"a":1}'});
  await go(other + '/orders', {method: 'POST', headers: json, body: '{"a":1}'});
  await go(other + '/login', {method: 'POST', headers: json, body: '{"user":"ada","login_method":"password","password":"x"}'});
  await go(other + '/notes/caf%C3%A9', {method: 'POST', headers: {...json, authorization: 'Bearer x'}, body: JSON.stringify({text: 'run \`make\` by _method', tags: ['-method', ' methodical']})});
  // Writes that the operator lets pass.
  for (const body of [{text: ' methodical'}, {q: '-method'}, {payment_method: 'card', _links: {}}, {text: '{"_method":"DELETE"}'}, {text: '_method=DELETE'}, {method: 'card', 'method-id': 'none'}, {httpMethod: 'GET', path: '/'}, ['_method'], {a: {_method: 'nested'}}, 'text', {shipping: {method: 'dhl', _x: 1}}])
    await go('/search', {method: 'POST', headers: json, body: JSON.stringify(body)});
  for (const body of ['method=card&shipping_method=dhl', 'q=_method%3DDELETE', 'q=a+b%26_method&x=%5B_method%5D', 'text=%22_method%22%3A%22DELETE%22', 'q=', ''])
    await go('/search', {method: 'POST', body: new URLSearchParams(body)});
  for (const name of ['caf%C3%A9', 'a%20b', '%5Bdraft%5D', 'C++', 'x%2By', '%40me', '100%25', '%E6%97%A5', 'b%27c', '%7Bid%7D', 'a.b.c', '%23tag', 'to%3Ado'])
    await go('/notes/' + name, {method: 'POST', headers: json, body: '{"text":"x"}'});
  for (const type of ['application/vnd.api+json', 'application/merge-patch+json', 'application/problem+json', 'application/ld+json', 'application/json; charset=utf-8', 'application/json;charset=UTF-8', 'application/activity+json', 'application/hal+json', 'application/vnd.github.v3+json', 'application/scim+json', 'application/cloudevents+json; charset=utf-8', 'application/geo+json', 'application/fhir+json', 'application/vnd.elasticsearch+json; compatible-with=8', 'application/json;odata.metadata=minimal;IEEE754Compatible=true', 'application/ld+json; profile="https://www.w3.org/ns/activitystreams"', 'application/vnd.api+json; ext="https://jsonapi.org/ext/atomic"', 'application/json; version=2', 'APPLICATION/JSON'])
    await go('/notes/1', {method: 'POST', headers: {'content-type': type}, body: '{"data":{"type":"notes","attributes":{"text":"a \\\\u0060method\\\\u0060 of _method"}}}'});
  // Beacons and reports.
  navigator.sendBeacon('/collect', 'v=1&t=pageview&_method=none'); navigator.sendBeacon('/collect/blob', new Blob(['{"a":1}'], {type: 'application/json'}));
  const form = new FormData(); form.append('metric', 'LCP'); form.append('file', new Blob(['x']), 'a.txt'); navigator.sendBeacon('/collect/form', form); navigator.sendBeacon('/collect', new URLSearchParams({a: '1', method: 'none'}));
  await sleep(300);
  await go('/uploads/notes.txt', {method: 'PUT', body: new Blob(['x'.repeat(3000)], {type: 'text/plain'})}); await go('/uploads/1', {method: 'PATCH', headers: {'content-type': 'application/offset+octet-stream', 'upload-offset': '0', 'tus-resumable': '1.0.0'}, body: new Uint8Array(100)});
  await go('/uploads/1', {method: 'DELETE'}); await go('/uploads', {method: 'POST', body: form});
  // XMLHttpRequest.
  for (const [method, url] of [['GET', '/data?xhr'], ['HEAD', '/data?xhr'], ['POST', '/search']]) await new Promise((f) => { const x = new XMLHttpRequest(); x.onloadend = f; x.open(method, url); x.setRequestHeader('X-Requested-With', 'XMLHttpRequest'); if (method === 'POST') x.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded; charset=UTF-8'); x.send(method === 'POST' ? 'q=a%20b&method=card' : null); });
  // Forms.
  document.querySelector('[type=file]').files = (() => { const d = new DataTransfer(); d.items.add(new File(['hello _method'], 'naïve "file".txt', {type: 'text/plain'})); return d.files; })();
  for (const id of ['get', 'login', 'sign', 'multipart', 'plain', 'upload', 'write']) await submit(id);
  // Streams, sockets and workers.
  await new Promise((f) => { const e = new EventSource('/events'); let n = 0; e.onerror = () => { if (++n > 1) { e.close(); f(); } }; setTimeout(() => { e.close(); f(); }, 4000); });
  await new Promise((f) => { const w = new WebSocket(live + '/socket', ['chat', 'v2']); w.onclose = w.onerror = f; setTimeout(f, 2000); });
  await new Promise((f) => { const w = new WebSocket(same + '/socket'); w.onclose = w.onerror = f; setTimeout(f, 2000); });
  new Worker('/static/worker.js'); if (window.SharedWorker) new SharedWorker('/static/shared.js');
  try { const r = await navigator.serviceWorker.register('/sw.js'); await navigator.serviceWorker.ready; await r.update(); await go('/through-worker'); await go('/search', {method: 'POST', headers: json, body: '{"q":"by worker"}'}); } catch (e) { console.log('sw', e); }
  await sleep(500);
  location.href = '/second.html?q=1#fragment';
}
onload = () => all();
</script>`;

const second = `<!doctype html><title>Second</title><a id="down" href="/files/r%C3%A9sum%C3%A9%20(2).bin" download>x</a><a id="ping" href="/pinged.html" ping="/ping">y</a>
<script>
let step = +(sessionStorage.step ?? 0); sessionStorage.step = step + 1;
onload = () => setTimeout(() => {
  if (step === 0) location.reload();
  else if (step === 1) { document.getElementById('down').click(); setTimeout(() => location.href = '/second.html?back#x', 500); }
  else if (step === 2) document.getElementById('ping').click();
}, 300);
</script>`;
const pinged = `<!doctype html><title>Third</title><form id="f" method="post" action="/login"><input name="user" value="ada"><input name="method" value="password"></form>
<script>onload = () => setTimeout(() => document.getElementById('f').submit(), 300)</script>`;

function routes(recorder, done) {
  let events = 0;
  return (req, res, body) => {
    const name = req.url.split('?')[0];
    const html = (text) => { res.setHeader('content-type', 'text/html'); res.end(text); return true; };
    if (name === '/start.html') return events = 0, html(page(recorder.url('other'), ...['live', 'shop'].map((app) => recorder.url(app, 'socket').replace('http', 'ws'))));
    if (name === '/second.html') return html(second);
    if (name === '/pinged.html') return html(pinged);
    if (name === '/login' && body.includes('method=password')) return html('<!doctype html><title>Done</title><script>fetch("/.recorder/done")</script>');
    if (name === '/.recorder/done') return res.end(), setTimeout(done, 200), true;
    if (name === '/events') {
      if (events++ > 0) { res.writeHead(204); res.end(); return true; }
      res.setHeader('content-type', 'text/event-stream');
      res.end('retry: 100\nid: 7\ndata: {"a":1}\n\n');
      return true;
    }
    if (name === '/sw.js') {
      res.setHeader('content-type', 'text/javascript');
      res.end('oninstall = (e) => e.waitUntil(skipWaiting()); onactivate = (e) => e.waitUntil(clients.claim()); onfetch = (e) => e.respondWith(fetch(e.request));');
      return true;
    }
    if (name === '/login' || /^\/(search|orders|inbound|uploads)/.test(name) && req.headers['sec-fetch-dest'] === 'iframe') return html('<!doctype html>ok');
    return false;
  };
}

function label(method, target, headers) {
  const name = target.split('?')[0];
  const refuse = (why, more) => ({ expect: { 'read-only': 'refuse', ...more }, why });
  if (name.startsWith('/orders') && !/^(GET|HEAD|OPTIONS)$/.test(method)) return refuse('a write');
  if (name === '/ping') return refuse('the ping of a link is a POST to a path that no rule lets through');
  if (name === '/socket' && headers.upgrade && headers['sec-websocket-protocol'] !== 'chat, v2') return refuse('what goes through an upgraded connection cannot be judged; upgrades: allow lets it pass');
  if (name === '/login' && /^multipart/.test(headers['content-type'])) return refuse('a rule with methods looks for an override in the body, which is not looked for in multipart; allow: [overrides] lets it pass', { 'no-access': 'refuse' });
  if (/^\/graphql\?operationName=/.test(target)) return refuse('a GraphQL parameter stands in the URL of a POST: where URL and body disagree, servers differ; any other parameter, such as op, may name the operation');
  if (name === '/graphql' && method === 'POST') return { expect: { 'read-only': 'pass' } };
  if (name.startsWith('/uploads')) return { expect: { 'read-only': 'pass' } };
}

async function chromium(recorder) {
  const { chromium } = require('playwright-core');
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required'],
  });
  const version = browser.version();
  const tool = `playwright-core ${require('playwright-core/package.json').version}`;
  const context = await browser.newContext();
  const tab = await context.newPage();
  if (process.env.DEBUG) tab.on('console', (m) => console.error(m.text()));
  let done;
  const finished = new Promise((f, r) => { done = f; setTimeout(() => r(new Error('Chromium did not come to the end of the page')), 120_000); });
  recorder.routes = [routes(recorder, done)];
  recorder.begin({ group: 'browsers', client: `Chromium ${version}`, source: `recorded: Chromium ${version} by ${tool}`, label });
  await tab.goto(recorder.url() + '/start.html');
  await finished;
  await browser.close();
}

async function firefox(recorder) {
  const binary = process.env.FIREFOX ?? 'firefox-esr';
  const version = execFileSync(binary, ['--version']).toString().trim().replace('Mozilla ', '');
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'firefox-'));
  const prefs = { 'browser.shell.checkDefaultBrowser': false, 'datareporting.policy.dataSubmissionEnabled': false, 'app.normandy.enabled': false, 'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false, 'browser.safebrowsing.malware.enabled': false, 'browser.safebrowsing.phishing.enabled': false, 'extensions.update.enabled': false, 'browser.aboutwelcome.enabled': false, 'media.autoplay.default': 0, 'toolkit.telemetry.enabled': false, 'browser.startup.homepage_override.mstone': 'ignore', 'services.settings.server': 'http://127.0.0.1:9/', 'browser.download.alwaysOpenPanel': false, 'browser.download.folderList': 2, 'browser.download.dir': profile, 'browser.send_pings': true };
  fs.writeFileSync(path.join(profile, 'user.js'), Object.entries(prefs).map(([k, v]) => `user_pref(${JSON.stringify(k)}, ${JSON.stringify(v)});`).join('\n'));
  let done;
  const finished = new Promise((f, r) => { done = f; setTimeout(() => r(new Error('Firefox did not come to the end of the page')), 180_000); });
  recorder.routes = [routes(recorder, done)];
  recorder.begin({ group: 'browsers', client: version, source: `recorded: ${version}`, label });
  const child = spawn(binary, ['--headless', '--no-remote', '--profile', profile, recorder.url() + '/start.html'], { stdio: 'ignore', env: { ...process.env, HOME: profile, MOZ_HEADLESS: '1' } });
  try {
    await finished;
  } finally {
    child.kill();
    await new Promise((f) => child.on('exit', f));
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

module.exports = [chromium, firefox];
