// Runs graphql-http's audits of a GraphQL-over-HTTP server (npm, "Audits") against URL, which is asked for as HOST. Prints
// one JSON object a line: id, name, the outcome (ok, notice, warn or error), the HTTP status that it is about, the rule by
// which Drydock refused the request if it did, and of an outcome other than ok the reason.
'use strict';
const dns = require('node:dns');
const { serverAudits } = require('graphql-http');

const [url, host] = process.argv.slice(2);
// fetch sends no Host but the URL's, so the URL names the host, and looking it up finds the address.
const target = new URL(url);
const { hostname: address, port } = target;
dns.lookup = (_, options, done) => (options.all ? done(null, [{ address, family: 4 }]) : done(null, address, 4));
target.host = `${host}:${port}`;

let last;
const fetchFn = async (input, init = {}) => {
  // A connection each: what an answer leaves on one must not reach the next audit.
  const res = await fetch(input, { ...init, headers: { ...init.headers, connection: 'close' } });
  last = res.clone();
  return res;
};

// refusedBy is the rule that a refusal of Drydock's names.
const refusedBy = async (res) => {
  try {
    return (await res.json()).errors[0].extensions.rule;
  } catch {
    return undefined; // an answer of the server's own
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
