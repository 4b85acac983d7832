// What services send to exempt webhook routes. If the sender's own code is available, it sends.
// Otherwise its recorded payloads or the request in its documentation are sent, signed by its SDK
// if that can sign.
'use strict';
const { execFile, spawn } = require('node:child_process');
const { createHash, createHmac } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const run = promisify(execFile);

const group = 'webhooks';
const secret = 'it is a secret of the corpus';
const hmac = (body, key = secret, encoding = 'hex', hash = 'sha256') => createHmac(hash, key).update(body).digest(encoding);
const version = (name) => `${name} ${JSON.parse(fs.readFileSync(path.join(__dirname, 'node_modules', name, 'package.json'))).version}`;
const pass = { 'no-access': 'pass', 'read-only': 'pass' }, refuse = { 'no-access': 'refuse', 'read-only': 'refuse' };
const form = (fields) => new URLSearchParams(fields).toString();
const FORM = 'application/x-www-form-urlencoded', JSONTYPE = 'application/json';
const unreadable = (type) => `a rule with methods looks for an override in the body, which is not looked for in ${type}; allow: [overrides], or a rule without methods, lets it pass`;

// GitHub's own recorded payloads, one for each event. Every third is also sent as the form that a
// hook may be set to.
async function github(recorder) {
  const { sign } = await import('@octokit/webhooks-methods');
  const events = require('@octokit/webhooks-examples');
  let n = 0;
  for (const { name, examples } of events.default ?? events) {
    // The smallest example, because only the form matters.
    const payload = JSON.stringify(examples.toSorted((a, b) => JSON.stringify(a).length - JSON.stringify(b).length)[0]);
    const bodies = [[JSONTYPE, payload], ...(n++ % 3 === 0 ? [[FORM, form({ payload })]] : [])];
    for (const [type, body] of bodies) {
      recorder.add({
        group, client: 'GitHub ' + name, source: `fixture: payload of ${version('@octokit/webhooks-examples')}, signed by ${version('@octokit/webhooks-methods')}, headers of https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers`,
        target: '/webhooks/github', body, headers: [
          ['Accept', '*/*'], ['Content-Type', type], ['User-Agent', 'GitHub-Hookshot/044aadd'], ['X-GitHub-Delivery', '72d3162e-cc78-11e3-81ab-4c9367dc0958'],
          ['X-GitHub-Event', name], ['X-GitHub-Hook-ID', '292430182'], ['X-GitHub-Hook-Installation-Target-ID', '79929171'], ['X-GitHub-Hook-Installation-Target-Type', 'repository'],
          ['X-Hub-Signature', 'sha1=' + hmac(body, secret, 'hex', 'sha1')], ['X-Hub-Signature-256', await sign(secret, body)],
        ],
      });
    }
  }
}

// Alertmanager and Prometheus are packages of Debian. They send on their own, to the recorder in
// the place of every service.
async function alertmanager(recorder) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'alertmanager-'));
  const to = (name, app) => `${recorder.url(app)}/webhooks/${name}`;
  const receivers = [
    { webhook_configs: [{ url: to('alertmanager') }] },
    { webhook_configs: [{ url: to('alertmanager/with-auth'), http_config: { authorization: { credentials: 'token' } } }] },
    { slack_configs: [{ api_url: to('slack-compatible'), channel: '#ops', text: 'run `make` by _method' }] },
    { pagerduty_configs: [{ url: to('pagerduty-compatible'), routing_key: 'k' }] },
    { opsgenie_configs: [{ api_url: to('opsgenie') + '/', api_key: 'k' }] },
    { victorops_configs: [{ api_url: to('victorops') + '/', api_key: 'k', routing_key: 'r' }] },
    { discord_configs: [{ webhook_url: to('discord') }] },
    { telegram_configs: [{ api_url: to('telegram'), bot_token: 't', chat_id: 1 }] },
    { webex_configs: [{ api_url: to('webex'), room_id: 'r', http_config: { authorization: { credentials: 'token' } } }] },
    { pushover_configs: [] },
  ].filter((r) => Object.values(r)[0].length);
  const config = {
    global: { resolve_timeout: '1m' },
    route: { receiver: 'all', group_wait: '0s', group_interval: '1s', repeat_interval: '1h' },
    receivers: [Object.assign({ name: 'all' }, ...receivers.slice(2), { webhook_configs: receivers.slice(0, 2).flatMap((r) => r.webhook_configs) })],
  };
  fs.writeFileSync(path.join(dir, 'config.yml'), JSON.stringify(config));
  const title = /version ([^ ,]+)/.exec((await run('prometheus-alertmanager', ['--version'])).stdout)[1];
  recorder.begin({ group, client: 'Alertmanager ' + title, source: 'recorded: Alertmanager ' + title });
  const port = 20000 + (process.pid % 20000);
  const child = spawn('prometheus-alertmanager', [`--config.file=${dir}/config.yml`, `--storage.path=${dir}`, `--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address='], { stdio: 'ignore' });
  try {
    const before = recorder.records.length;
    const alerts = [{ labels: { alertname: 'DiskFull', instance: 'db-1:9100', method: 'DELETE', severity: 'page' }, annotations: { summary: 'about a mutation { x }' }, generatorURL: 'http://prometheus/graph?g0.expr=up%3D%3D0' }];
    for (let i = 0; i < 100; i++) {
      await new Promise((f) => setTimeout(f, 100));
      try {
        if ((await fetch(`http://127.0.0.1:${port}/api/v2/alerts`, { method: 'POST', headers: { 'content-type': JSONTYPE }, body: JSON.stringify(alerts) })).ok) break;
      } catch { /* not listening yet */ }
    }
    for (let i = 0; i < 60 && recorder.records.length - before < 9; i++) await new Promise((f) => setTimeout(f, 100));
    // The end of an alert is sent too.
    alerts[0].endsAt = new Date().toISOString();
    await fetch(`http://127.0.0.1:${port}/api/v2/alerts`, { method: 'POST', headers: { 'content-type': JSONTYPE }, body: JSON.stringify(alerts) });
    await new Promise((f) => setTimeout(f, 3000));
  } finally {
    child.kill();
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

// The SDK of CloudEvents sends in each of its modes.
async function cloudevents(recorder) {
  const { CloudEvent, emitterFor, httpTransport, Mode } = require('cloudevents');
  recorder.begin({ group, client: version('cloudevents'), source: 'recorded: ' + version('cloudevents') });
  const event = new CloudEvent({ id: '1', type: 'com.example.order.paid', source: '/orders', time: '2026-11-25T00:00:00.000Z', data: { payment_method: 'card', text: ' methodical' }, method: 'card' });
  for (const mode of [Mode.BINARY, Mode.STRUCTURED]) await emitterFor(httpTransport(recorder.url() + '/webhooks/events'), { mode })(event);
  const viaFetch = (headers, body) => fetch(recorder.url() + '/webhooks/events', { method: 'POST', headers, body });
  await viaFetch({ 'content-type': 'application/cloudevents-batch+json; charset=utf-8' }, JSON.stringify([event]));
  const python = 'cloudevents 1.11.0 for Python';
  const untyped = (method, target, headers) => headers['content-type'] ? undefined : { expect: refuse, why: 'a body without a Content-Type is a form to Rack, so it cannot be known to name no other method; allow: [overrides] lets it pass' };
  recorder.begin({ group, client: python, source: 'recorded: ' + python, label: untyped });
  for (const encoding of ['binary', 'structured']) await run(process.env.HONEST_TOOLS + '/python/bin/python', [path.join(__dirname, 'clients/cloudevents_send.py'), recorder.url() + '/webhooks/events', encoding]);
}

// Senders whose requests are known only from their documentation. The body is JSON, unless it is a
// string with a type.
function documented(recorder) {
  const add = (client, url, headers, body, { type = JSONTYPE, target, method, expect, why, by } = {}) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const all = typeof headers === 'function' ? headers(text) : headers;
    const common = [['Accept', '*/*'], ['Content-Type', type]].filter(([k]) => (method ?? 'POST') === 'POST' && !all.some(([n]) => n.toLowerCase() === k.toLowerCase()));
    recorder.add({ group, client, source: `documented: ${url}${by ? `, signed by ${by}` : ''}`, method, target: target ?? '/webhooks/' + client.split(' ')[0].toLowerCase(), headers: [...common, ...all], body: text, expect, why });
  };
  const both = (client, url, headers, body, options) => {
    add(client, url, headers, body, { ...options, expect: refuse, why: unreadable(options.kind) });
    add(client, url, headers, body, { ...options, target: '/inbound/' + client.split(' ')[0].toLowerCase(), expect: pass });
  };

  // Payments.
  const stripe = require('stripe')('sk_test_x');
  const stripeHeaders = (body) => [['Cache-Control', 'no-cache'], ['User-Agent', 'Stripe/1.0 (+https://stripe.com/docs/webhooks)'], ['Accept', '*/*; q=0.5, application/xml'], ['Stripe-Signature', stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: 1795593600 })]];
  const event = (type, object) => ({ id: 'evt_1MqqbKLt4dXK03v5qaIbiNCC', object: 'event', api_version: '2024-04-10', created: 1680064028, type, data: { object }, livemode: false, pending_webhooks: 1, request: { id: null, idempotency_key: null } });
  for (const [type, object] of [
    ['payment_intent.succeeded', { id: 'pi_1', object: 'payment_intent', amount: 2000, payment_method: 'pm_1', payment_method_options: { card: { request_three_d_secure: 'automatic' } }, payment_method_types: ['card', 'link'], capture_method: 'automatic', confirmation_method: 'automatic', next_action: null }],
    ['charge.succeeded', { id: 'ch_1', object: 'charge', payment_method: 'pm_1', payment_method_details: { card: { brand: 'visa', three_d_secure: null }, type: 'card' }, metadata: { _method: 'DELETE', note: '"_method"' } }],
    ['checkout.session.completed', { id: 'cs_1', object: 'checkout.session', payment_method_collection: 'always', shipping_options: [{ shipping_rate: 'shr_1' }], url: null }],
    ['customer.subscription.updated', { id: 'sub_1', object: 'subscription', collection_method: 'charge_automatically', default_payment_method: null }],
    ['invoice.paid', { id: 'in_1', object: 'invoice', description: 'Über uns \u2028 "quoted" \\ back', lines: { object: 'list', data: [], url: '/v1/invoices/in_1/lines' } }],
    ['payment_method.attached', { id: 'pm_1', object: 'payment_method', type: 'sepa_debit' }],
    ['account.updated', { id: 'acct_1', object: 'account', payouts_enabled: true }],
    ['charge.dispute.created', { id: 'dp_1', object: 'dispute', evidence: { shipping_documentation: null, uncategorized_text: 'method="DELETE"' } }],
  ]) add('Stripe ' + type, 'https://docs.stripe.com/webhooks', stripeHeaders, JSON.stringify(event(type, object), null, 2), { type: 'application/json; charset=utf-8', by: version('stripe') });
  add('PayPal PAYMENT.CAPTURE.COMPLETED', 'https://developer.paypal.com/api/rest/webhooks/rest/', [['User-Agent', 'PayPal/AUHD-214.0-58843490'], ['PAYPAL-TRANSMISSION-ID', '69cd13f0-d67a-11e5-baa3-778b53f4ae55'], ['PAYPAL-TRANSMISSION-SIG', 'lmI95Jx3Y9nhR5SJWlHVIWpg=='], ['PAYPAL-AUTH-VERSION', 'v1'], ['PAYPAL-AUTH-ALGO', 'SHA256withRSA'], ['CAL_POOLSTACK', 'amqunphttpdeliveryd:UNPHTTPDELIVERY*CalThreadId=0*TopLevelTxnStartTime=1579e71daf8*Host=slcsbamqunphttpdeliveryd3001'], ['CLIENT_PID', '12345']],
    { id: 'WH-1', event_type: 'PAYMENT.CAPTURE.COMPLETED', resource: { id: '0JF', status: 'COMPLETED', links: [{ href: 'https://api.paypal.com/v2/payments/captures/0JF', rel: 'self', method: 'GET' }, { href: 'https://api.paypal.com/v2/payments/captures/0JF/refund', rel: 'refund', method: 'POST' }] }, links: [{ href: 'https://api.paypal.com/v1/notifications/webhooks-events/WH-1/resend', rel: 'resend', method: 'POST' }] });
  add('PayPal IPN', 'https://developer.paypal.com/api/nvp-soap/ipn/IPNIntro/', [['User-Agent', 'PayPal IPN ( https://www.paypal.com/ipn )']], 'mc_gross=19.95&protection_eligibility=Eligible&address_status=confirmed&payer_id=LPLWNMTBWMFAY&tax=0.00&payment_date=20%3A12%3A59+Jan+13%2C+2009+PST&payment_status=Completed&charset=windows-1252&address_zip=95131&first_name=Andr%E9&shipping_method=Default&custom=&item_name=', { type: FORM });
  for (const [name, item] of [['AUTHORISATION', { paymentMethod: 'visa' }], ['REFUND', { paymentMethod: 'ideal' }], ['REPORT_AVAILABLE', { reason: 'https://ca-test.adyen.com/reports/download/x?_method=csv' }]])
    add('Adyen ' + name, 'https://docs.adyen.com/development-resources/webhooks/webhook-types/', [['User-Agent', 'Adyen HttpClient 1.0'], ['Authorization', 'Basic YWRhOnB3']], { live: 'false', notificationItems: [{ NotificationRequestItem: { eventCode: name, success: 'true', merchantReference: 'order-1', additionalData: { hmacSignature: 'x=', 'metadata.method': 'card' }, ...item } }] }, { type: 'application/json; charset=UTF-8' });
  add('Adyen HTTP POST', 'https://docs.adyen.com/development-resources/webhooks/', [['User-Agent', 'Adyen HttpClient 1.0']], form({ live: 'false', eventCode: 'AUTHORISATION', paymentMethod: 'visa', reason: '1234:7777:12/2026', 'additionalData.hmacSignature': 'x+/=' }), { type: FORM });
  add('Square payment.updated', 'https://developer.squareup.com/docs/webhooks/overview', (b) => [['User-Agent', 'Square Connect v2'], ['X-Square-Hmacsha256-Signature', hmac(b, secret, 'base64')], ['Square-Initial-Delivery-Timestamp', '2026-11-25T00:00:00Z'], ['Square-Environment', 'Production']], { merchant_id: 'M', type: 'payment.updated', event_id: 'e', data: { type: 'payment', id: 'p', object: { payment: { card_details: { entry_method: 'KEYED', cvv_status: 'CVV_ACCEPTED' } } } } });
  for (const topic of ['orders/create', 'orders/fulfilled', 'products/update', 'app/uninstalled'])
    add('Shopify ' + topic, 'https://shopify.dev/docs/apps/build/webhooks/subscribe/https', (b) => [['X-Shopify-Topic', topic], ['X-Shopify-Hmac-Sha256', hmac(b, secret, 'base64')], ['X-Shopify-Shop-Domain', 'x.myshopify.com'], ['X-Shopify-API-Version', '2026-01'], ['X-Shopify-Webhook-Id', 'b54557e4-bdd9-4b37-8a5f-bf7d70bcd043'], ['User-Agent', 'Shopify-Captain-Hook']], { id: 1, shipping_lines: [{ title: 'DHL', delivery_category: null }], payment_gateway_names: ['visa'], fulfillment: { tracking_urls: [] }, note_attributes: [{ name: '_method', value: 'gift' }] });
  add('Mollie payment', 'https://docs.mollie.com/reference/webhooks', [['User-Agent', 'Mollie HTTP client/1.0']], 'id=tr_5B8cwPMGnU6qLbRvo7qEZo', { type: FORM });
  add('Braintree subscription_charged', 'https://developer.paypal.com/braintree/docs/guides/webhooks/overview', [['User-Agent', 'Braintree Webhooks']], form({ bt_signature: 'k|9f2e', bt_payload: Buffer.from('<notification><kind>x</kind></notification>').toString('base64') + '\n' }), { type: FORM });
  add('Paddle transaction.completed', 'https://developer.paddle.com/webhooks/signature-verification', (b) => [['User-Agent', 'Paddle'], ['Paddle-Signature', `ts=1795593600;h1=${hmac(b)}`]], { event_id: 'evt_1', event_type: 'transaction.completed', data: { payments: [{ method_details: { type: 'card' } }], collection_mode: 'automatic' } });
  add('Razorpay payment.captured', 'https://razorpay.com/docs/webhooks/validate-test/', (b) => [['X-Razorpay-Signature', hmac(b)], ['X-Razorpay-Event-Id', 'x'], ['User-Agent', 'Razorpay-Webhook/v1']], { entity: 'event', event: 'payment.captured', contains: ['payment'], payload: { payment: { entity: { id: 'pay_1', method: 'upi', notes: [] } } } });
  add('GoCardless mandates', 'https://developer.gocardless.com/api-reference/#webhooks-overview', (b) => [['User-Agent', 'gocardless-webhook-service/1.1'], ['Webhook-Signature', hmac(b)], ['Origin', 'https://api.gocardless.com']], { events: [{ id: 'EV1', action: 'created', resource_type: 'mandates', links: { mandate: 'MD1' }, details: { origin: 'gocardless', scheme: 'bacs' } }] });
  add('Klarna push', 'https://docs.klarna.com/klarna-payments/', [['User-Agent', 'Klarna']], { event_type: 'FRAUD_RISK_ACCEPTED', order_id: '1' });
  add('Coinbase charge:confirmed', 'https://docs.cdp.coinbase.com/commerce/webhooks', (b) => [['User-Agent', 'weipay-webhooks'], ['X-CC-Webhook-Signature', hmac(b)]], { attempt_number: 1, event: { type: 'charge:confirmed', data: { pricing_type: 'fixed_price' } } });
  add('Plaid TRANSACTIONS', 'https://plaid.com/docs/api/webhooks/', [['Plaid-Verification', 'eyJhbGciOiJFUzI1NiJ9.e30.x'], ['User-Agent', 'plaid-webhooks']], { webhook_type: 'TRANSACTIONS', webhook_code: 'SYNC_UPDATES_AVAILABLE', item_id: 'i' });
  add('Chargebee payment_succeeded', 'https://www.chargebee.com/docs/2.0/webhook_settings.html', [['Authorization', 'Basic YWRhOnB3'], ['User-Agent', 'ChargeBee']], { id: 'ev_1', event_type: 'payment_succeeded', webhook_status: 'not_configured', content: { transaction: { payment_method: 'card', linked_invoices: [] } } }, { type: 'application/json;charset=UTF-8' });

  // Chat and code.
  const slack = (b) => [['User-Agent', 'Slackbot 1.0 (+https://api.slack.com/robots)'], ['Accept-Encoding', 'gzip,deflate'], ['X-Slack-Request-Timestamp', '1795593600'], ['X-Slack-Signature', 'v0=' + hmac(`v0:1795593600:${b}`)]];
  add('Slack url_verification', 'https://docs.slack.dev/reference/events/url_verification/', slack, { token: 'Jhj5dZrVaK7ZwHHjRyZWjbDl', challenge: '3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P', type: 'url_verification' });
  for (const text of ['run `make`', '_method=DELETE', '"_method": "DELETE"', 'mutation { pay }'])
    add('Slack message', 'https://docs.slack.dev/apis/events-api/', slack, { token: 't', team_id: 'T1', api_app_id: 'A1', event: { type: 'message', channel: 'C1', user: 'U1', text, ts: '1795593600.000200', blocks: [{ type: 'rich_text', elements: [{ type: 'text', text }] }] }, type: 'event_callback', event_id: 'Ev1', event_time: 1795593600, authorizations: [{ is_bot: true }] });
  add('Slack slash command', 'https://docs.slack.dev/interactivity/implementing-slash-commands/', slack, 'token=gIkuvaNzQIHg97ATvDxqgjtO&team_id=T0001&team_domain=example&channel_id=C2147483705&channel_name=test&user_id=U2147483697&user_name=Steve&command=%2Fdeploy&text=--method%3Drolling+_method%3DDELETE&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F1234%2F5678&trigger_id=13345224609.738474920.8088930838d88f008e0&api_app_id=A123456', { type: FORM });
  for (const payload of [{ type: 'block_actions', user: { id: 'U1' }, actions: [{ action_id: 'method', block_id: '_method', value: 'DELETE', type: 'button' }] }, { type: 'view_submission', view: { state: { values: { _method: { x: { type: 'plain_text_input', value: 'mutation' } } } } } }, { type: 'shortcut', callback_id: 'open' }])
    add('Slack ' + payload.type, 'https://docs.slack.dev/interactivity/handling-user-interaction/', slack, form({ payload: JSON.stringify(payload) }), { type: FORM });
  for (const [name, kind] of [['Push Hook', 'push'], ['Merge Request Hook', 'merge_request'], ['Pipeline Hook', 'pipeline'], ['Note Hook', 'note'], ['System Hook', 'project_create']])
    add('GitLab ' + kind, 'https://docs.gitlab.com/user/project/integrations/webhooks/', [['User-Agent', 'GitLab/17.6.0'], ['X-Gitlab-Event', name], ['X-Gitlab-Token', 'x'], ['X-Gitlab-Instance', 'https://gitlab.example.com'], ['X-Gitlab-Webhook-UUID', '02affd2d-2cba-4033-917d-ec22d5dc4b38'], ['Idempotency-Key', 'f5e57da3-fff3-43ba-af9b-3a2c8f4f3eb6']], { object_kind: kind, ref: 'refs/heads/_method', commits: [{ message: 'Rename "_method"\n\nto `method`', added: ['app/_method.rb'] }], object_attributes: { note: '```\n{"_method":"DELETE"}\n```' } });
  for (const key of ['repo:push', 'pullrequest:created', 'diagnostics:ping']) add('Bitbucket ' + key, 'https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/', (b) => [['User-Agent', 'Bitbucket-Webhooks/2.0'], ['X-Event-Key', key], ['X-Request-UUID', '4eb37b4a'], ['X-Attempt-Number', '1'], ['X-Hook-UUID', '6f'], ['X-Hub-Signature', 'sha256=' + hmac(b)]], { push: { changes: [] }, actor: { links: { self: { href: 'https://api.bitbucket.org/2.0/users/x' } } } });
  add('Jira issue_updated', 'https://developer.atlassian.com/server/jira/platform/webhooks/', [['User-Agent', 'Atlassian Webhook HTTP Client'], ['X-Atlassian-Webhook-Identifier', '1']], { timestamp: 1, webhookEvent: 'jira:issue_updated', issue: { fields: { summary: 'The -method flag', customfield_10000: null } } }, { type: 'application/json; charset=UTF-8' });
  add('Trello updateCard', 'https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/', (b) => [['User-Agent', 'Trello'], ['X-Trello-Webhook', hmac(b, secret, 'base64', 'sha1')]], { action: { type: 'updateCard', data: { card: { name: '_method' } } }, model: { id: '1' } });
  add('Linear Issue', 'https://linear.app/developers/webhooks', (b) => [['User-Agent', 'Linear-Webhook'], ['Linear-Delivery', '234d1a4e'], ['Linear-Event', 'Issue'], ['Linear-Signature', hmac(b)]], { action: 'update', type: 'Issue', data: { title: 'x' }, updatedFrom: {}, url: 'https://linear.app/x' }, { type: 'application/json; charset=utf-8' });
  add('Discord PING', 'https://docs.discord.com/developers/interactions/overview', [['User-Agent', 'Discord-Interactions/1.0 (+https://discord.com)'], ['X-Signature-Ed25519', 'ab'], ['X-Signature-Timestamp', '1']], { application_id: '1', type: 1, version: 1, token: 't' });
  add('Telegram update', 'https://core.telegram.org/bots/api#setwebhook', [['X-Telegram-Bot-Api-Secret-Token', 'x'], ['Accept-Encoding', 'gzip, deflate']], { update_id: 1, message: { message_id: 1, text: '/start _method=DELETE', entities: [{ type: 'bot_command', offset: 0, length: 6 }] } });
  add('Microsoft Teams outgoing', 'https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-outgoing-webhook', (b) => [['User-Agent', 'Microsoft-SkypeBotApi (Microsoft-BotFramework/3.0)'], ['Authorization', 'HMAC ' + hmac(b, secret, 'base64')]], '{"type":"message","id":"1","text":"\\u003cat\\u003eBot\\u003c/at\\u003e run \\u0060make\\u0060 \\u005fmethod"}', { type: 'application/json; charset=utf-8' });
  add('Meta messages', 'https://developers.facebook.com/docs/graph-api/webhooks/getting-started', (b) => [['User-Agent', 'facebookexternalua'], ['X-Hub-Signature-256', 'sha256=' + hmac(b)]], '{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"message":{"text":"caf\\u00e9 \\u005fmethod"}}]}]}');
  add('Zoom meeting.started', 'https://developers.zoom.us/docs/api/webhooks/', (b) => [['User-Agent', 'Zoom Marketplace/1.0a'], ['x-zm-signature', 'v0=' + hmac(b)], ['x-zm-request-timestamp', '1'], ['clientid', 'x']], { event: 'meeting.started', payload: { object: { topic: 'x' } }, event_ts: 1 }, { type: 'application/json; charset=utf-8' });

  // Mail and phones.
  const twilio = require('twilio/lib/webhooks/webhooks');
  for (const [name, fields] of [['SMS', { ToCountry: 'US', SmsSid: 'SM1', NumMedia: '0', Body: 'STOP _method=DELETE & more', FromCountry: 'DE', To: '+15551234567', From: '+4915112345678', AccountSid: 'AC1', ApiVersion: '2010-04-01' }], ['voice', { CallSid: 'CA1', CallStatus: 'ringing', Direction: 'inbound', Caller: '+1', Digits: '1#' }], ['status callback', { MessageStatus: 'delivered', MessageSid: 'SM1', SmsStatus: 'delivered' }], ['recording', { RecordingUrl: 'https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE1', RecordingStatus: 'completed' }]])
    add('Twilio ' + name, 'https://www.twilio.com/docs/usage/webhooks/messaging-webhooks', [['User-Agent', 'TwilioProxy/1.1'], ['X-Twilio-Signature', twilio.getExpectedTwilioSignature(secret, 'https://shop.example.com/webhooks/twilio', fields)], ['I-Twilio-Idempotency-Token', '9f']], form(fields), { type: 'application/x-www-form-urlencoded; charset=UTF-8', by: version('twilio') });
  add('SendGrid events', 'https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event', [['User-Agent', 'SendGrid Event API'], ['X-Twilio-Email-Event-Webhook-Signature', 'MEU='], ['X-Twilio-Email-Event-Webhook-Timestamp', '1']], [{ email: 'a@example.com', event: 'processed', 'smtp-id': '<14c5d75ce93.dfd.64b469@ismtpd-555>', category: ['cat facts'], sg_event_id: 'x' }, { event: 'click', url: 'https://example.com/?_method=DELETE', method: 'card' }]);
  add('Mailgun delivered', 'https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks/', [['User-Agent', 'mailgun/treq-20.9.0']], { signature: { token: 't', timestamp: '1', signature: 's' }, 'event-data': { event: 'delivered', 'delivery-status': { tls: true }, message: { headers: { subject: '_method' } } } });
  add('Mailgun route', 'https://documentation.mailgun.com/docs/mailgun/user-manual/receive-forward-store/receive-http/', [['User-Agent', 'mailgun/treq-20.9.0']], form({ recipient: 'x@example.com', sender: 'y@example.com', subject: 'Re: _method', 'body-plain': 'a & b = _method\r\n', 'Message-Id': '<1@x>', 'X-Mailgun-Incoming': 'Yes', 'message-headers': '[["Received","by x"],["X-Method","none"]]' }), { type: FORM });
  add('Postmark inbound', 'https://postmarkapp.com/developer/webhooks/inbound-webhook', [['User-Agent', 'Postmark']], { FromName: 'x', MessageStream: 'inbound', Headers: [{ Name: 'X-HTTP-Method-Override', Value: 'DELETE' }], TextBody: '_method', Attachments: [] });
  add('Mandrill events', 'https://mailchimp.com/developer/transactional/docs/webhooks/', (b) => [['User-Agent', 'Mandrill-Webhook/1.0'], ['X-Mandrill-Signature', hmac(b, secret, 'base64', 'sha1')]], form({ mandrill_events: '[{"event":"inbound","msg":{"raw_msg":"x_method=1"}}]' }), { type: FORM });
  add('Mailchimp subscribe', 'https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/', [['User-Agent', 'MailChimp']], 'type=subscribe&fired_at=2026-11-25+21%3A35%3A57&data%5Bid%5D=8a25ff1d98&data%5Bmerges%5D%5BEMAIL%5D=api%40mailchimp.com&data%5Bmerges%5D%5BINTERESTS%5D=Group1%2CGroup2&data%5Bmethod%5D=x', { type: FORM });
  const mail = '--xYzZY\r\nContent-Disposition: form-data; name="headers"\r\n\r\nReceived: by mx\r\n--xYzZY\r\nContent-Disposition: form-data; name="subject"\r\n\r\nabout _method\r\n--xYzZY\r\nContent-Disposition: form-data; name="attachment1"; filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\n%PDF-1.4\r\n--xYzZY--\r\n';
  both('SendGrid inbound parse', 'https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/setting-up-the-inbound-parse-webhook', [['User-Agent', 'Sendlib/1.0 server.sendgrid.com']], mail, { type: 'multipart/form-data; boundary=xYzZY', kind: 'multipart/form-data' });
  both('Mailgun route with attachments', 'https://documentation.mailgun.com/docs/mailgun/user-manual/receive-forward-store/receive-http/', [['User-Agent', 'mailgun/treq-20.9.0']], mail, { type: 'multipart/form-data; boundary="xYzZY"', kind: 'multipart/form-data' });

  // Clouds.
  both('AWS SNS Notification', 'https://docs.aws.amazon.com/sns/latest/dg/http-notification-json.html', [['x-amz-sns-message-type', 'Notification'], ['x-amz-sns-message-id', '22b80b92'], ['x-amz-sns-topic-arn', 'arn:aws:sns:us-west-2:123456789012:MyTopic'], ['User-Agent', 'Amazon Simple Notification Service Agent'], ['Connection', 'Keep-Alive']], { Type: 'Notification', MessageId: '22b80b92', Message: '{"_method":"x"}', SigningCertURL: 'https://sns.us-west-2.amazonaws.com/SimpleNotificationService.pem' }, { type: 'text/plain; charset=UTF-8', kind: 'text/plain' });
  both('WebSub distribution', 'https://www.w3.org/TR/websub/#content-distribution', [['Link', '<https://hub.example.com/>; rel="hub"'], ['X-Hub-Signature', 'sha1=ab']], '<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"/>', { type: 'application/atom+xml', kind: 'XML' });
  both('XML-RPC pingback', 'https://www.hixie.ch/specs/pingback/pingback', [['User-Agent', 'WordPress/6.7; https://blog.example.com']], '<?xml version="1.0"?><methodCall><methodName>pingback.ping</methodName><params/></methodCall>', { type: 'text/xml', kind: 'XML' });
  both('Recurly notification', 'https://recurly.com/developers/reference/webhooks/', [['User-Agent', 'Recurly Webhooks/2.0']], '<?xml version="1.0" encoding="UTF-8"?><successful_payment_notification><transaction><payment_method>card</payment_method></transaction></successful_payment_notification>', { type: 'application/xml; charset=utf-8', kind: 'XML' });
  add('AWS EventBridge API destination', 'https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-api-destinations.html', [['User-Agent', 'Amazon/EventBridge/ApiDestinations'], ['Range', 'bytes=0-1048575'], ['X-Api-Key', 'x']], { version: '0', 'detail-type': 'x', detail: { requestParameters: { httpMethod: 'GET' } } }, { type: 'application/json; charset=utf-8' });
  add('Google Pub/Sub push', 'https://cloud.google.com/pubsub/docs/push', [['User-Agent', 'CloudPubSub-Google'], ['From', 'noreply@google.com'], ['Authorization', 'Bearer ey.J.x']], { message: { data: 'SGVsbG8=', messageId: '1', publishTime: '2026-11-25T00:00:00Z' }, subscription: 'projects/p/subscriptions/s' });
  add('Azure Event Grid SubscriptionValidation', 'https://learn.microsoft.com/en-us/azure/event-grid/end-point-validation-event-grid-events-schema', [['aeg-event-type', 'SubscriptionValidation'], ['aeg-delivery-count', '0'], ['aeg-data-version', '']], [{ id: '1', topic: '/subscriptions/x', subject: '', data: { validationCode: '0' }, eventType: 'Microsoft.EventGrid.SubscriptionValidationEvent' }], { type: 'application/json; charset=utf-8' });
  add('Azure Event Grid CloudEvents', 'https://learn.microsoft.com/en-us/azure/event-grid/cloud-event-schema', [['aeg-event-type', 'Notification']], { specversion: '1.0', type: 'x', source: '/x', id: '1', data: { api: 'PutBlockList', contentType: 'x' } }, { type: 'application/cloudevents+json; charset=utf-8' });
  add('Azure CloudEvents abuse protection', 'https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md#4-abuse-protection', [['WebHook-Request-Origin', 'eventgrid.azure.net'], ['WebHook-Request-Callback', 'https://rp.azure.net/x'], ['WebHook-Request-Rate', '120']], '', { method: 'OPTIONS' });
  add('Kubernetes admission', 'https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/', [['User-Agent', 'kube-apiserver-admission'], ['Accept', 'application/json, */*'], ['Accept-Encoding', 'gzip']], { kind: 'AdmissionReview', apiVersion: 'admission.k8s.io/v1', request: { uid: '705ab4f5', operation: 'DELETE', object: null, options: { kind: 'DeleteOptions' } } }, { target: '/webhooks/admission/validate?timeout=10s' });
  add('Kubernetes audit', 'https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#webhook-backend', [['User-Agent', 'kube-apiserver/v1.34.0 (linux/amd64) kubernetes/abcdef'], ['Accept', 'application/json, */*'], ['Accept-Encoding', 'gzip']], { kind: 'EventList', apiVersion: 'audit.k8s.io/v1', items: [{ verb: 'delete', requestURI: '/api/v1/pods' }] }, { target: '/webhooks/audit?timeout=30s' });
  add('Docker Hub push', 'https://docs.docker.com/docker-hub/repos/manage/webhooks/', [['User-Agent', 'Go-http-client/1.1']], { callback_url: 'https://registry.hub.docker.com/u/x/hook/1/', push_data: { tag: 'latest' }, repository: { repo_name: 'x/y' } });

  // Others.
  add('PagerDuty incident.triggered', 'https://developer.pagerduty.com/docs/webhooks-overview', (b) => [['User-Agent', 'PagerDuty-Webhook/V3.0'], ['X-PagerDuty-Signature', 'v1=' + hmac(b)], ['X-Webhook-Id', 'x'], ['X-Webhook-Subscription', 'P']], { event: { id: '5', event_type: 'incident.triggered', data: { type: 'incident', urgency: 'high', assignees: [] } } });
  add('Grafana alerting', 'https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/', [['User-Agent', 'Grafana']], { receiver: 'x', status: 'firing', alerts: [{ labels: { method: 'GET' }, values: { B: 1 } }], externalURL: 'http://localhost:3000/', version: '1' });
  add('Datadog monitor', 'https://docs.datadoghq.com/integrations/webhooks/', [['User-Agent', 'Datadog/Webhook'], ['X-Custom', '1']], { body: '%%%\n`_method`\n%%%', title: '[Triggered] x', event_type: 'metric_alert_monitor' });
  add('Sentry issue', 'https://docs.sentry.io/organization/integrations/integration-platform/webhooks/', (b) => [['User-Agent', 'sentry-webhooks/1.0'], ['Sentry-Hook-Resource', 'issue'], ['Sentry-Hook-Timestamp', '1'], ['Sentry-Hook-Signature', hmac(b)], ['Request-ID', 'x']], { action: 'created', installation: { uuid: 'a' }, data: { issue: { title: 'KeyError: "_method"', culprit: 'app._method' } } });
  const wh = new (require('standardwebhooks').Webhook)('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
  for (const [who, type] of [['Svix', 'invoice.paid'], ['Clerk', 'user.created'], ['Resend', 'email.bounced']]) add(`${who} ${type}`, 'https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md', (b) => [['User-Agent', 'Svix-Webhooks/1.24 (sender-9YMgn; +https://www.svix.com/http-sender/)'], ['webhook-id', 'msg_1'], ['webhook-timestamp', '1795593600'], ['webhook-signature', wh.sign('msg_1', new Date(1795593600000), b)]], { type, timestamp: '2026-11-25T00:00:00Z', data: { method: 'x', first_name: 'Ada' } }, { by: version('standardwebhooks') });
  add('Contentful publish', 'https://www.contentful.com/developers/docs/webhooks/', [['User-Agent', 'Contentful Webhooks/1.0'], ['X-Contentful-Topic', 'ContentManagement.Entry.publish'], ['X-Contentful-Webhook-Name', 'x']], { sys: { type: 'Entry', id: '1' }, fields: { _method: { 'en-US': 'x' }, title: { 'en-US': 'x' } } }, { type: 'application/vnd.contentful.management.v1+json' });
  add('ActivityPub inbox', 'https://www.w3.org/TR/activitypub/#server-to-server-interactions', (b) => [['User-Agent', 'Mastodon/4.3.0 (http.rb/5.2.0; +https://social.example/)'], ['Date', 'Wed, 25 Nov 2026 00:00:00 GMT'], ['Digest', 'SHA-256=' + createHash('sha256').update(b).digest('base64')], ['Signature', 'keyId="https://social.example/actor#main-key",algorithm="rsa-sha256",headers="(request-target) host date digest content-type",signature="x=="']], { '@context': 'https://www.w3.org/ns/activitystreams', type: 'Delete', actor: 'https://social.example/a', object: 'https://social.example/a', 'ostatus:method': 'x' }, { type: 'application/activity+json' });
  add('Zendesk ticket', 'https://developer.zendesk.com/documentation/webhooks/verifying/', (b) => [['User-Agent', 'Zendesk Webhook'], ['X-Zendesk-Webhook-Signature', hmac(b, secret, 'base64')], ['X-Zendesk-Webhook-Signature-Timestamp', '1']], { ticket: { title: 'How to send _method?', via: 'web' } });
  add('HubSpot contact.creation', 'https://developers.hubspot.com/docs/api/webhooks', (b) => [['User-Agent', 'HubSpot Webhooks (https://developers.hubspot.com/docs/methods/webhooks/webhooks-overview)'], ['X-HubSpot-Signature-v3', hmac(b, secret, 'base64')], ['X-HubSpot-Request-Timestamp', '1']], [{ eventId: 1, subscriptionType: 'contact.creation', attemptNumber: 0 }]);
  add('Typeform response', 'https://www.typeform.com/developers/webhooks/', (b) => [['User-Agent', 'Typeform Webhooks'], ['Typeform-Signature', 'sha256=' + hmac(b, secret, 'base64')]], { event_id: 'x', event_type: 'form_response', form_response: { answers: [{ type: 'text', text: '_method' }], hidden: {} } });
  add('Okta event hook', 'https://developer.okta.com/docs/concepts/event-hooks/', [['User-Agent', 'Okta/2026.11.0'], ['Authorization', 'x']], { eventType: 'com.okta.event_hook', data: { events: [{ eventType: 'user.session.start', debugContext: { debugData: { requestUri: '/login', method: 'x' } } }] } });
  add('Vercel deployment', 'https://vercel.com/docs/webhooks/webhooks-api', (b) => [['User-Agent', 'Vercel Webhooks'], ['x-vercel-signature', hmac(b, secret, 'hex', 'sha1')]], { id: 'x', type: 'deployment.created', payload: { name: 'my-project', links: { deployment: 'https://vercel.com/x' } } });
  add('CircleCI workflow', 'https://circleci.com/docs/webhooks/', (b) => [['User-Agent', 'CircleCI-Webhook/1.0'], ['Circleci-Event-Type', 'workflow-completed'], ['Circleci-Signature', 'v1=' + hmac(b)]], { type: 'workflow-completed', pipeline: { vcs: { commit: { subject: 'Fix "_method"', body: '' } } } });
  add('Pusher presence', 'https://pusher.com/docs/channels/server_api/webhooks/', (b) => [['X-Pusher-Key', 'k'], ['X-Pusher-Signature', hmac(b)], ['User-Agent', 'Pusher-Webhooks']], { time_ms: 1, events: [{ name: 'channel_occupied', channel: 'x' }] });
  add('Facebook data deletion', 'https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback', [['User-Agent', 'facebookplatform/1.0 (+http://developers.facebook.com)']], form({ signed_request: 'x.eyJ1c2VyX2lkIjoiMSJ9' }), { type: FORM });
  add('OpenID back-channel logout', 'https://openid.net/specs/openid-connect-backchannel-1_0.html#BCRequest', [], 'logout_token=eyJhbGciOiJIUzI1NiJ9.e30.x', { type: FORM });
  add('SAML response', 'https://docs.oasis-open.org/security/saml/v2.0/saml-bindings-2.0-os.pdf', [['Origin', 'null'], ['User-Agent', 'Mozilla/5.0']], form({ SAMLResponse: Buffer.from('<Response/>').toString('base64'), RelayState: '/?_method=x' }), { type: FORM, target: '/login' });

  // An address is checked by GET before anything is sent to it. The rule for POST leaves that to
  // the mode.
  add('Meta verification', 'https://developers.facebook.com/docs/graph-api/webhooks/getting-started', [['User-Agent', 'facebookplatform/1.0 (+http://developers.facebook.com)'], ['Accept', '*/*']], '', { method: 'GET', target: '/webhooks/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock' });
  add('Dropbox verification', 'https://www.dropbox.com/developers/reference/webhooks', [['User-Agent', 'DropboxWebhooks/1.0']], '', { method: 'GET', target: '/webhooks/dropbox?challenge=abc123' });
  add('Okta verification', 'https://developer.okta.com/docs/concepts/event-hooks/', [['X-Okta-Verification-Challenge', 'x'], ['User-Agent', 'Okta/2026.11.0']], '', { method: 'GET', target: '/webhooks/okta' });
  add('Trello check', 'https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/', [['User-Agent', 'Trello']], '', { method: 'HEAD', target: '/webhooks/trello' });
}

module.exports = [github, alertmanager, cloudevents, documented];
