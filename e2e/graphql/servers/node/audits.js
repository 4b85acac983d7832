// Runs the audits of the npm package graphql-http against URL, with HOST as the host. Prints one
// JSON object a line: id, name, outcome (ok, notice, warn or error), the HTTP status of the answer,
// the rule by which Drydock refused the request if it did, and the reason of an outcome other than
// ok.
'use strict';
const dns = require('node:dns');
const { serverAudits } = require('graphql-http');

const [url, host] = process.argv.slice(2);
// fetch sends the host of the URL as Host, so the URL names the host, and a lookup finds the
// address.
const target = new URL(url);
const { hostname: address, port } = target;
dns.lookup = (_, options, done) => (options.all ? done(null, [{ address, family: 4 }]) : done(null, address, 4));
target.host = `${host}:${port}`;

let last;
const fetchFn = async (input, init = {}) => {
  // Each audit gets a connection of its own, so that what an answer leaves on it does not reach the
  // next.
  const res = await fetch(input, { ...init, headers: { ...init.headers, connection: 'close' } });
  last = res.clone();
  return res;
};

// refusedBy returns the rule that a refusal of Drydock names.
const refusedBy = async (res) => {
  try {
    return (await res.json()).errors[0].extensions.rule;
  } catch {
    return undefined; // an answer of the server
  }
};

(async () => {
  for (const { fn } of serverAudits({ url: target.href, fetchFn })) {
    const { id, name, status: outcome, reason } = await fn();
    console.log(JSON.stringify({ id, name, outcome, status: last.status, rule: await refusedBy(last), reason }));
  }
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
