// A till on tenpay (npm), the package as published. What it is asked comes as lines of JSON, see drive.py.
'use strict';

const readline = require('readline');
const Tenpay = require('tenpay');
const { parseXML } = require('tenpay/lib/util');

const place = JSON.parse(process.argv[2]);
const till = new Tenpay(
  { appid: place.appid, mchid: place.mch_id, partnerKey: place.key, spbill_create_ip: '127.0.0.1' },
  true,
);
// The only thing that differs from a till of the wallet: where it asks.
for (const name of Object.keys(till.urls)) {
  till.urls[name] = till.urls[name].replace('https://api.mch.weixin.qq.com', place.base_url);
}
// Its own log for debugging: a refusal is thrown before its signature is looked at, and without its fields.
let received;
till.log = (what, text) => { if (what.startsWith('receive data')) received = text; };

const methods = { micropay: 'micropay', orderquery: 'orderQuery', reverse: 'reverse' };

async function asked({ op, fields }) {
  received = undefined;
  const params = { ...fields, sign_type: place.sign_type };
  if (place.sub_mch_id) params.sub_mch_id = place.sub_mch_id;
  let raised;
  try {
    await till[methods[op]](params);
  } catch (error) {
    if (received === undefined) return { lost: true };
    raised = error.message;
  }
  const answer = await parseXML(received);
  const verified = answer.sign !== undefined && answer.sign === till._getSign(answer, place.sign_type);
  return { fields: answer, verified, raised };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await asked(JSON.parse(line)))}\n`);
  }
})();
