// GraphQL clients beside those of e2e/graphql/testdata/clients.json: those of a browser, whose
// queries need preflights, and those of Python, Java and Go.
'use strict';
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { promisify } = require('node:util');
const run = promisify(execFile);

const tools = process.env.HONEST_TOOLS;
const group = 'graphql';
const version = (name) => `${name} ${JSON.parse(fs.readFileSync(path.join(__dirname, 'node_modules', name, 'package.json'))).version}`;
const readOnly = (verdict, why) => ({ expect: { 'read-only': verdict }, ...(why && { why }) });

// Every operation here is a query. Entries that Drydock cannot tell from a write are refused, and
// say why.
function label(app) {
  return (method, target, headers, body) => {
    if (/websocket/i.test(headers.upgrade) && app !== 'live') return readOnly('refuse', 'operations inside a WebSocket cannot be seen; graphql.upgrades: allow lets it pass');
    if (/^multipart/.test(headers['content-type'])) return readOnly('refuse', 'a multipart request may write into any part of its operations, so no multipart is taken for a query; the client can send JSON');
    if (method === 'GET' && body?.length) return readOnly('refuse', 'a GET with a body: some servers read it and some do not; this client also sends POST');
    if (/\?mutation$/.test(target)) return readOnly('refuse', 'the URL says mutation, and nothing says that no server reads it there');
    const sent = method === 'POST' && body?.length ? JSON.parse(body) : Object.fromEntries(new URL(target, 'http://x').searchParams);
    if (!Array.isArray(sent) && method !== 'OPTIONS' && (sent.extensions || sent.id) && !sent.query) return readOnly('refuse', 'a hash alone may stand for a mutation; the answer makes the client send the document, or graphql.persisted lists the hash');
    return readOnly('pass');
  };
}

function answer(req, res, body) {
  if (!req.url.startsWith('/graphql')) return false;
  res.setHeader('content-type', 'application/json');
  const text = body.toString();
  res.end(JSON.stringify(text.includes('persistedQuery') && !text.includes('"query"') ? { errors: [{ message: 'PersistedQueryNotFound', extensions: { code: 'PERSISTED_QUERY_NOT_FOUND' } }] } : { data: { a: 'a' } }));
  return true;
}

async function page(recorder) {
  const { chromium } = require('playwright-core');
  const script = require('esbuild').buildSync({ entryPoints: [path.join(__dirname, 'clients/graphql_page.js')], bundle: true, write: false, format: 'iife', define: { 'process.env.NODE_ENV': '"production"', global: 'window' }, logLevel: 'error' }).outputFiles[0].text;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  recorder.routes = [answer];
  const tab = await browser.newPage();
  recorder.begin(null);
  await tab.goto(recorder.url() + '/page.html');
  await tab.addScriptTag({ content: script });
  for (const name of await tab.evaluate((url) => window.run(url), recorder.url('other') + '/graphql')) {
    for (const app of name === 'graphql-ws' ? ['shop', 'live'] : ['other']) {
      const [pkg, ...how] = name.split(' ');
      const client = [version(pkg), ...how].join(' ') + ' in Chromium';
      recorder.begin({ group, client, source: `recorded: ${version(pkg)} in Chromium ${browser.version()}`, label: label(app) });
      await tab.evaluate(([url, name]) => window.run(url, name), [recorder.url(app, name === 'graphql-ws' ? 'socket' : 1) + '/graphql', name]);
    }
  }
  await browser.close();
}

const external = (title, command, ...args) => {
  const drive = async (recorder) => {
    recorder.routes = [answer];
    const before = recorder.records.length;
    recorder.begin({ group, client: title, source: 'recorded: ' + title, label: label('shop') });
    const { stdout } = await run(command, [...args, recorder.url() + '/graphql']);
    for (const r of recorder.records.slice(before)) if (stdout.trim()) r.source = 'recorded: ' + (r.client = stdout.trim());
    if (recorder.records.length === before) throw new Error(`${title} sent nothing`);
  };
  drive.title = title;
  return drive;
};
const java = (client, title) => external(title, 'java', '-cp', tools + '/java/*', path.join(__dirname, 'clients/GraphQL.java'), client);

// Clients that could not be run where this was recorded. Their requests are taken from their
// sources.
function documented(recorder) {
  const add = (client, url, headers, body, more = {}) => recorder.add({ group, client, source: 'documented: ' + url, target: '/graphql', headers, body, expect: { 'read-only': 'pass' }, ...more });
  const shake = 'https://github.com/ChilliCream/graphql-platform/tree/0026f567b44e8f1a94b9d23846c673cf1772fbca/src/StrawberryShake/Client/src/Transport.Http';
  // System.Text.Json escapes characters that HTML could take for markup, and all that are not
  // ASCII.
  add('Strawberry Shake', shake, [['Content-Type', 'application/json']], '{"query":"query GetUser($id: ID!) {\\n  user(id: $id) {\\n    __typename\\n    name\\n  }\\n}","operationName":"GetUser","variables":{"id":"1"}}');
  add('Strawberry Shake', shake, [['Content-Type', 'application/json'], ['Authorization', 'Bearer x']], '{"query":"query Search($text: String) {\\n  search(text: $text, kind: \\u0022mutation\\u0022) {\\n    id\\n  }\\n}","operationName":"Search","variables":{"text":"run \\u0060make\\u0060 \\u0026 \\u003Cb\\u003E it\\u0027s caf\\u00E9 \\uD83D\\uDEF3 1\\u002B1"}}');
  add('Strawberry Shake, persisted', shake, [['Content-Type', 'application/json']], '{"id":"60ddx5GyoXK6ZcGfkrBd2Q","operationName":"GetUser","variables":{"id":"1"}}', readOnly('refuse', 'an id alone may stand for a mutation; graphql.persisted lists hashes that are known to be queries'));
  const kotlin = 'https://www.apollographql.com/docs/kotlin/advanced/http-engine';
  const kotlinHeaders = [['X-APOLLO-OPERATION-ID', '8d9a6ab'], ['X-APOLLO-OPERATION-NAME', 'GetUser'], ['Accept', 'multipart/mixed;deferSpec=20220824, application/graphql-response+json, application/json'], ['Content-Type', 'application/json'], ['Accept-Encoding', 'gzip'], ['User-Agent', 'okhttp/4.12.0']];
  add('Apollo Kotlin', kotlin, kotlinHeaders, '{"operationName":"GetUser","variables":{"id":"1"},"query":"query GetUser($id: ID!) { user(id: $id) { __typename id name } }"}');
  add('Apollo Kotlin, APQ', 'https://www.apollographql.com/docs/kotlin/advanced/persisted-queries', kotlinHeaders, '{"operationName":"GetUser","variables":{"id":"1"},"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38"}}}', readOnly('refuse', 'a hash alone may stand for a mutation; the answer makes the client send the document, or graphql.persisted lists the hash'));
  const ios = 'https://www.apollographql.com/docs/ios/networking/client-creation';
  add('Apollo iOS', ios, [['Accept', 'multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json'], ['Content-Type', 'application/json'], ['apollographql-client-name', 'com.example.app-apollo-ios'], ['apollographql-client-version', '1.0-1'], ['X-APOLLO-OPERATION-TYPE', 'query'], ['X-APOLLO-OPERATION-NAME', 'GetUser'], ['User-Agent', 'App/1 CFNetwork/1490.0.4 Darwin/23.2.0'], ['Accept-Language', 'en-GB,en;q=0.9']], '{"operationName":"GetUser","query":"query GetUser($id: ID!) { user(id: $id) { __typename id name } }","variables":{"id":"1"}}');
}

module.exports = [
  page,
  ...['requests', 'httpx', 'aiohttp', 'sgqlc'].map((c) => external('gql on ' + c, tools + '/python/bin/python', path.join(__dirname, 'clients/graphql_send.py'), c)),
  java('spring', 'Spring HttpGraphQlClient 1.3.3'), java('spring-sync', 'Spring HttpSyncGraphQlClient 1.3.3'),
  java('dgs', 'DGS CustomGraphQLClient 9.2.2'), java('dgs-web', 'DGS WebClientGraphQLClient 9.2.2'),
  ...['machinebox', 'machinebox-multipart', 'shurcool', 'genqlient', 'genqlient-get'].map((c) => external(c, tools + '/go', c)),
  documented,
];
