// Programs that use a service on their own: probes, scrapers, crawlers, package managers, version
// control, object storage.
'use strict';
const { execFile, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const run = promisify(execFile);

const tools = process.env.HONEST_TOOLS;
const pass = { 'no-access': 'pass', 'read-only': 'pass' };
const group = 'tools';

function temporary(name) { return fs.mkdtempSync(path.join(os.tmpdir(), name + '-')); }
const quietly = (...args) => run(...args).catch(() => {}); // some programs fail on the answers, but their requests are recorded
const sleep = (ms) => new Promise((f) => setTimeout(f, ms));

function probes(recorder) {
  const add = (client, url, target, headers, { method = 'GET', expect, why } = {}) => recorder.add({ group, client, source: 'documented: ' + url, method, target, headers, expect, why });
  const kube = 'https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#http-probes';
  for (const target of ['/healthz', '/readyz', '/healthz?verbose', '/readyz?exclude=etcd']) add('kubelet', kube, target, [['User-Agent', 'kube-probe/1.34'], ['Accept', '*/*'], ['Connection', 'close']]);
  add('kubelet with a header', kube, '/healthz', [['User-Agent', 'kube-probe/1.34'], ['Accept', '*/*'], ['X-Custom-Method', 'probe'], ['Connection', 'close']]);
  add('AWS Elastic Load Balancing', 'https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html', '/healthz', [['Connection', 'close'], ['User-Agent', 'ELB-HealthChecker/2.0'], ['Accept-Encoding', 'gzip, compressed']]);
  add('AWS Route 53', 'https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html', '/healthz', [['Cache-Control', 'no-cache'], ['User-Agent', 'Amazon-Route53-Health-Check-Service (ref 01234567-89ab-cdef; report http://amzn.to/1vsZADi)'], ['Accept', '*/*'], ['Accept-Encoding', '*']]);
  add('Google Cloud load balancer', 'https://cloud.google.com/load-balancing/docs/health-check-concepts', '/healthz', [['User-Agent', 'GoogleHC/1.0'], ['Connection', 'Keep-alive']]);
  add('Google Cloud uptime check', 'https://cloud.google.com/monitoring/uptime-checks', '/healthz', [['User-Agent', 'GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)'], ['Connection', 'close']]);
  add('Azure load balancer', 'https://learn.microsoft.com/en-us/azure/load-balancer/load-balancer-custom-probe-overview', '/healthz', [['User-Agent', 'Load Balancer Agent'], ['Connection', 'Keep-Alive']]);
  add('Azure Front Door', 'https://learn.microsoft.com/en-us/azure/frontdoor/health-probes', '/healthz', [['User-Agent', 'Edge Health Probe'], ['Synthetic-Test-Location', 'x']], { method: 'HEAD' });
  add('Envoy', 'https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/health_checking', '/healthz', [['User-Agent', 'Envoy/HC']]);
  add('HAProxy', 'https://docs.haproxy.org/3.0/configuration.html#option%20httpchk', '/healthz', [['Connection', 'close']], { method: 'OPTIONS' });
  add('Consul', 'https://developer.hashicorp.com/consul/docs/register/health-check/vm', '/healthz', [['User-Agent', 'Consul Health Check'], ['Accept', 'text/plain, text/*, */*'], ['Connection', 'close']]);
  add('Docker healthcheck by wget', 'https://docs.docker.com/reference/dockerfile/#healthcheck', '/healthz', [['User-Agent', 'Wget'], ['Connection', 'close']]);
  add('UptimeRobot', 'https://uptimerobot.com/help/locations/', '/healthz', [['User-Agent', 'Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)'], ['Cache-Control', 'no-cache'], ['Connection', 'close']], { method: 'HEAD' });
  add('Pingdom', 'https://documentation.solarwinds.com/en/success_center/pingdom/', '/healthz', [['User-Agent', 'Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)'], ['Pragma', 'no-cache'], ['Cache-Control', 'no-cache']]);
  add("Let's Encrypt", 'https://letsencrypt.org/docs/challenge-types/#http-01-challenge', '/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0', [['User-Agent', "Mozilla/5.0 (compatible; Let's Encrypt validation server; +https://www.letsencrypt.org)"], ['Accept', '*/*'], ['Accept-Encoding', 'gzip'], ['Connection', 'close']]);
  add("Let's Encrypt", 'https://letsencrypt.org/docs/challenge-types/#http-01-challenge', '/.well-known/acme-challenge/_A-b_method-token-1234567890123456789012345', [['User-Agent', "Mozilla/5.0 (compatible; Let's Encrypt validation server; +https://www.letsencrypt.org)"], ['Accept', '*/*'], ['Accept-Encoding', 'gzip'], ['Connection', 'close']]);
  add('Google Trust Services', 'https://cloud.google.com/certificate-manager/docs/public-ca', '/.well-known/acme-challenge/x', [['User-Agent', 'GoogleTrustServices ACME'], ['Accept', '*/*']]);
  for (const [bot, agent, url] of [['Googlebot', 'Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/131.0.0.0 Safari/537.36', 'https://developers.google.com/search/docs/crawling-indexing/googlebot'], ['Bingbot', 'Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36', 'https://www.bing.com/webmasters/help/which-crawlers-does-bing-use-8c184ec0']]) {
    add(bot, url, '/robots.txt', [['Connection', 'keep-alive'], ['Accept', 'text/plain,text/html,*/*'], ['User-Agent', agent], ['From', 'bot@example.com']]);
    add(bot, url, '/products/caf%C3%A9?method=espresso', [['Connection', 'keep-alive'], ['Accept', 'text/html,application/xhtml+xml'], ['User-Agent', agent], ['If-Modified-Since', 'Tue, 24 Nov 2026 00:00:00 GMT']]);
  }
}

async function prometheus(recorder) {
  const dir = temporary('prometheus');
  const config = {
    global: { scrape_interval: '200ms', scrape_timeout: '200ms' },
    scrape_configs: ['/metrics', '/federate', '/probe'].map((p, i) => ({ job_name: 'j' + i, metrics_path: p, static_configs: [{ targets: [new URL(recorder.url()).host] }], params: i === 1 ? { 'match[]': ['{job="x",method="DELETE"}', 'up'] } : i === 2 ? { module: ['http_2xx'], target: ['https://example.com/?_method=x'] } : {} })),
    remote_write: [{ url: recorder.url() + '/inbound/write', queue_config: { batch_send_deadline: '300ms' } }],
    remote_read: [{ url: recorder.url() + '/inbound/read' }],
  };
  fs.writeFileSync(path.join(dir, 'p.yml'), JSON.stringify(config));
  const version = 'Prometheus ' + /version ([^ ,]+)/.exec((await run('prometheus', ['--version'])).stdout)[1];
  let writes = 0;
  recorder.routes = [(req, res) => { if (!/metrics|federate|probe/.test(req.url)) return false; res.setHeader('content-type', 'text/plain; version=0.0.4'); res.end('up{method="GET"} 1\n'); return true; }];
  recorder.begin({ group, client: version, source: 'recorded: ' + version, label: (method, target) => target === '/inbound/write' && writes++ > 1 ? { expect: pass } : undefined });
  const port = 20000 + (process.pid % 20000) + 1;
  const child = spawn('prometheus', [`--config.file=${dir}/p.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
  const before = recorder.records.length;
  for (let i = 0; i < 100 && !recorder.records.slice(before).some((r) => r.target === '/inbound/write'); i++) await sleep(100);
  await fetch(`http://127.0.0.1:${port}/api/v1/query?query=x`).catch(() => {});
  await sleep(500);
  child.kill();
  await new Promise((f) => child.on('exit', f));
  // Every scrape is like the one before.
  const seen = new Set();
  recorder.records = recorder.records.filter((r) => r.client !== version || (!seen.has(r.target) && seen.add(r.target)));
  fs.rmSync(dir, { recursive: true, force: true });
}

// Each program asks for what it usually asks for. The answers are not those of a real registry.
async function packages(recorder) {
  const dir = temporary('packages');
  const as = async (client, command, args, options) => {
    recorder.begin({ group, client, source: 'recorded: ' + client, label: (method) => (/^(POST|PUT)$/.test(method) ? { expect: { 'read-only': 'refuse' }, why: 'a POST to a path that no rule lets through' } : undefined) });
    await quietly(command, args, { cwd: dir, timeout: 60_000, ...options });
  };
  const line = async (command, ...args) => (await run(command, args)).stdout.split('\n')[0];
  fs.writeFileSync(path.join(dir, 'package.json'), '{"name":"x","version":"1.0.0","dependencies":{}}');
  const npm = ['--registry=' + recorder.url(), '--fetch-retries=0', `--cache=${dir}/npm`, '--no-update-notifier'];
  const npmVersion = 'npm ' + (await line('npm', '--version'));
  for (const args of [['view', '@angular/core'], ['install', '@scope/pkg@1', 'left-pad'], ['search', 'method override'], ['ping'], ['audit']]) await as(npmVersion, 'npm', [...args, ...npm]);
  await as((await line(tools + '/python/bin/pip', '--version')).split(' from')[0], tools + '/python/bin/pip', ['download', '--retries=0', '--no-cache-dir', '--disable-pip-version-check', '--index-url=' + recorder.url() + '/simple', 'Zope.Interface==1.0', '-d', dir]);
  await as((await line('go', 'version')).replace('version ', ''), 'go', ['list', '-m', '-versions', 'github.com/Azure/azure-sdk-for-go@latest'], { env: { ...process.env, GOPROXY: recorder.url() + '/go', GOFLAGS: '-mod=mod', GONOSUMDB: '*', GOMODCACHE: dir + '/mod' } });
  await as('git ' + (await line('git', '--version')).split(' ')[2], 'git', ['-c', 'http.followRedirects=false', 'ls-remote', recorder.url() + '/repo.git'], {});
  await as('git ' + (await line('git', '--version')).split(' ')[2] + ', protocol 0', 'git', ['-c', 'protocol.version=0', 'ls-remote', recorder.url() + '/team%20x/repo.git'], {});
  await as((await line('aria2c', '--version')), 'aria2c', ['-q', '-x', '4', '-s', '4', '-k', '1M', '--dir=' + dir, '--no-conf', recorder.url() + '/film.bin'], {});
  await as('Lynx ' + /Version (\S+)/.exec(await line('lynx', '--version'))[1], 'lynx', ['-dump', recorder.url() + '/wiki/caf%C3%A9?q=_method'], {});
  fs.rmSync(dir, { recursive: true, force: true });
}

// A clone over the smart protocol of git reads by POST, with a body of its own type. The server of
// git answers.
async function git(recorder) {
  const dir = temporary('git');
  const options = { cwd: dir, env: { ...process.env, GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b', GIT_CONFIG_GLOBAL: '/dev/null' } };
  await run('git', ['init', '-q', '-b', 'main', 'repo.git'], options);
  for (let i = 0; i < 40; i++) await run('git', ['-C', 'repo.git', 'commit', '-q', '--allow-empty', '-m', String(i)], options);
  const version = 'git ' + (await run('git', ['--version'])).stdout.trim().split(' ')[2];
  recorder.routes = [(req, res, body) => new Promise((done) => {
    const [name, query = ''] = req.url.split('?');
    if (!name.startsWith('/repo.git')) return done(false);
    const backend = spawn('git', ['http-backend'], { env: { ...options.env, GIT_PROJECT_ROOT: dir, GIT_HTTP_EXPORT_ALL: '1', PATH_INFO: name, QUERY_STRING: query, REQUEST_METHOD: req.method, CONTENT_TYPE: req.headers['content-type'] ?? '', HTTP_CONTENT_ENCODING: req.headers['content-encoding'] ?? '', GIT_PROTOCOL: req.headers['git-protocol'] ?? '', REMOTE_USER: '' } });
    const out = [];
    backend.stdout.on('data', (c) => out.push(c));
    backend.on('close', () => {
      const all = Buffer.concat(out), end = all.indexOf('\r\n\r\n');
      for (const h of all.subarray(0, end).toString().split('\r\n')) {
        const [k, v] = h.split(': ');
        if (k === 'Status') res.statusCode = parseInt(v, 10);
        else res.setHeader(k, v);
      }
      res.end(all.subarray(end + 4));
      done(true);
    });
    backend.stdin.end(body);
  })];
  const label = (method, target) => (method === 'POST' && target.startsWith('/repo.git/git-upload-pack') ? { expect: { 'read-only': 'pass' } } : method === 'POST' ? { expect: { 'read-only': 'refuse' }, why: 'a push is a write' } : undefined);
  recorder.begin({ group, client: version, source: 'recorded: ' + version, label });
  for (const args of [['clone', '-q', recorder.url() + '/repo.git', 'a'], ['-c', 'protocol.version=0', 'clone', '-q', recorder.url() + '/repo.git', 'b'], ['clone', '-q', '--depth', '1', recorder.url() + '/repo.git', 'c']]) await run('git', args, options);
  await run('git', ['-C', 'repo.git', 'commit', '-q', '--allow-empty', '-m', 'more'], options);
  await run('git', ['-C', 'a', 'fetch', '-q'], options);
  await quietly('git', ['-C', 'a', 'push', '-q', 'origin', 'HEAD:refs/heads/x'], options);
  fs.rmSync(dir, { recursive: true, force: true });
}

// Object storage and WebDAV read with many methods and parameters.
async function storage(recorder) {
  const label = (method, target) => {
    if (method === 'PROPFIND' || method === 'REPORT') return { expect: { 'read-only': target.startsWith('/dav') ? 'pass' : 'refuse' }, ...(target.startsWith('/dav') ? {} : { why: 'only GET, HEAD and OPTIONS pass by themselves; a rule names other methods that read' }) };
    if (!/^(GET|HEAD|OPTIONS)$/.test(method)) return { expect: { 'read-only': 'refuse' }, why: 'a write' };
  };
  const boto = 'boto3 ' + (await run(tools + '/python/bin/python', ['-c', 'import boto3; print(boto3.__version__)'])).stdout.trim();
  recorder.begin({ group, client: boto, source: 'recorded: ' + boto, label });
  await run(tools + '/python/bin/python', [path.join(__dirname, 'clients/storage.py'), recorder.url()]);
  const curl = 'curl ' + (await run('curl', ['--version'])).stdout.split(' ')[1];
  recorder.begin({ group, client: curl, source: 'recorded: ' + curl, label });
  for (const target of ['/dav/', '/dav/caf%C3%A9/', '/calendars/ada/']) {
    const body = '<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getetag/></prop></propfind>';
    await run('curl', ['-sS', '-X', 'PROPFIND', '-H', 'Depth: 1', '-H', 'Content-Type: application/xml', '--data', body, recorder.url() + target]);
    await run('curl', ['-sS', '-X', 'OPTIONS', recorder.url() + target]);
  }
  await run('curl', ['-sS', '-X', 'REPORT', '-H', 'Depth: 1', '-H', 'Content-Type: text/xml; charset=utf-8', '--data', '<c:calendar-query xmlns:c="urn:ietf:params:xml:ns:caldav"/>', recorder.url() + '/dav/ada/']);
}

module.exports = [probes, prometheus, packages, git, storage];
