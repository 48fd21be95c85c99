//! Names of the fields, spelled as on the wire, mistakes included. Source: wechatpay-v2 §3.

#![expect(missing_docs, reason = "each constant is its own name; wechatpay-v2 §3 says what the fields mean")]

macro_rules! fields {
    ($($name:ident = $text:literal)*) => { $(pub const $name: &str = $text;)* };
}

fields! {
    APPID = "appid"
    ATTACH = "attach"
    AUTH_CODE = "auth_code"
    BODY = "body"
    DEPOSIT = "deposit"
    DETAIL = "detail"
    DEVICE_INFO = "device_info"
    ERR_CODE = "err_code"
    ERR_CODE_DES = "err_code_des"
    FEE_TYPE = "fee_type"
    GOODS_TAG = "goods_tag"
    KEY = "key"
    LIMIT_PAY = "limit_pay"
    MCH_ID = "mch_id"
    NONCE_STR = "nonce_str"
    OUT_REFUND_NO = "out_refund_no"
    OUT_TRADE_NO = "out_trade_no"
    PROFIT_SHARING = "profit_sharing"
    RECALL = "recall"
    RECEIPT = "receipt"
    REFUND_DESC = "refund_desc"
    REFUND_FEE = "refund_fee"
    RESULT_CODE = "result_code"
    RETURN_CODE = "return_code"
    RETURN_MSG = "return_msg"
    SCENE_INFO = "scene_info"
    SIGN = "sign"
    SIGN_TYPE = "sign_type"
    SPBILL_CREATE_IP = "spbill_create_ip"
    SUB_APPID = "sub_appid"
    SUB_MCH_ID = "sub_mch_id"
    TIME_END = "time_end"
    TIME_EXPIRE = "time_expire"
    TIME_START = "time_start"
    TOTAL_FEE = "total_fee"
    TOTAL_REFUND_COUNT = "total_refund_count"
    TRADE_STATE = "trade_state"
    TRADE_STATE_DESC = "trade_state_desc"
    TRANSACTION_ID = "transaction_id"
    VERSION = "version"
}
