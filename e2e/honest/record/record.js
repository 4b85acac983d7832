// Records testdata/. record.sh runs it with the pinned clients. Arguments name the drivers to run;
// without one, all run.
'use strict';
const { Recorder } = require('./recorder.js');

const all = ['browsers', 'http', 'webhooks', 'graphql', 'apis', 'tools'];

async function main() {
  const dir = process.env.HONEST_TESTDATA;
  const wanted = process.argv.slice(2);
  for (const name of wanted.length ? wanted : all) {
    const recorder = new Recorder();
    await recorder.start();
    for (const drive of require(`./${name}.js`)) {
      const before = recorder.records.length;
      await drive(recorder);
      recorder.begin(null);
      recorder.routes = [];
      console.log(`${name}: ${recorder.records.length - before} requests by ${drive.title ?? drive.name}`);
    }
    recorder.stop();
    if (recorder.unlabelled.length) throw new Error(`no verdict is known for these requests:\n${recorder.unlabelled.join('\n')}`);
    for (const [group, records] of recorder.write(dir)) console.log(`${group}: ${records.length} requests`);
  }
}

main().then(() => process.exit(0), (e) => {
  console.error(e);
  process.exit(1);
});
