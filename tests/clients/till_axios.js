// A till on wechatpay-axios-plugin (npm), the package as published. What it is asked comes as lines of JSON, see
// drive.py.
'use strict';

const crypto = require('crypto');
const readline = require('readline');
const { Wechatpay, Hash } = require('wechatpay-axios-plugin');

const place = JSON.parse(process.argv[2]);
const till = new Wechatpay({
  // The only thing that differs from a till of the wallet: where it asks.
  baseURL: place.base_url,
  mchid: place.mch_id,
  secret: place.key,
  timeout: 20000,
  // For version 3 of the API, which nobody asks here; the client wants them all the same.
  serial: 'none',
  privateKey: crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
  certs: { other: undefined },
});

const endpoints = {
  micropay: till.v2.pay.micropay,
  orderquery: till.v2.pay.orderquery,
  reverse: till.v2.secapi.pay.reverse,
};

async function asked({ op, fields }) {
  const params = { ...fields, appid: place.appid, mch_id: place.mch_id };
  if (op === 'micropay') params.spbill_create_ip = '127.0.0.1';
  if (place.sub_mch_id) params.sub_mch_id = place.sub_mch_id;
  if (place.sign_type !== 'MD5') params.sign_type = place.sign_type;
  let answer;
  let raised;
  try {
    answer = (await endpoints[op].post(params, { security: op === 'reverse' })).data;
  } catch (error) {
    if (!error.response) return { lost: true };
    answer = error.response.data;
    raised = error.code;
  }
  // The client looks at the signatures of successes only: those of refusals are looked at with its own tools.
  const kind = answer.sign && answer.sign.length === 64 ? Hash.ALGO_HMAC_SHA256 : Hash.ALGO_MD5;
  const verified = Hash.equals(Hash.sign(kind, answer, place.key), answer.sign);
  const expected = place.sign_type === kind;
  return { fields: answer, verified: verified && expected, raised };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await asked(JSON.parse(line)))}\n`);
  }
})();
