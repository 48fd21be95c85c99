//! Well-known identities of the sandbox and the demonstration. They open nothing but a simulator.

use protocol::{AppId, MchId};
use serde::Serialize;
use simulator::{Provider, SubMerchants};

/// The provider of the sandbox: its `mch_id` at the simulated wallet.
pub const PROVIDER_MCH_ID: &str = "1900000109";
/// Its `appid`.
pub const PROVIDER_APPID: &str = "wxd930ea5d5a258f4f";
/// Its API key.
pub const PROVIDER_KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// The provider as the simulated wallet knows it: it may act for any sub-merchant.
pub fn provider() -> Provider {
    Provider {
        appid: PROVIDER_APPID.to_owned(),
        mch_id: PROVIDER_MCH_ID.to_owned(),
        key: PROVIDER_KEY.to_owned(),
        sub_merchants: SubMerchants::Any,
    }
}

/// A merchant whose keys everybody may know. Serialized as the sandbox prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestMerchant {
    /// What its tills send as `appid`.
    pub appid: String,
    /// What its tills send as `mch_id`.
    pub mch_id: String,
    /// What its tills send as `sub_mch_id`, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mch_id: Option<String>,
    /// What its tills sign with.
    pub key: String,
    /// Its bearer key for the JSON API.
    pub api_key: String,
    /// Its `sub_mch_id` at the wallet.
    #[serde(skip)]
    pub upstream: String,
}

impl TestMerchant {
    /// What its tills send as `mch_id`, checked.
    ///
    /// # Errors
    ///
    /// An identity that nobody may have.
    pub fn northbound(&self) -> Result<store::merchant::Northbound, protocol::IdError> {
        Ok(store::merchant::Northbound {
            mch_id: self.mch_id.parse::<MchId>()?,
            sub_mch_id: self.sub_mch_id.as_deref().map(str::parse::<MchId>).transpose()?,
            appid: self.appid.parse::<AppId>()?,
        })
    }
}

/// The merchants of the sandbox: two with a number of their own, and one that names itself as a sub-merchant of
/// the provider, as tills behind a provider do.
pub fn sandbox_merchants() -> Vec<TestMerchant> {
    let own = |n: u32| TestMerchant {
        appid: format!("wx{n:016}"),
        mch_id: format!("19000002{n:02}"),
        sub_mch_id: None,
        key: format!("SandboxSigningKeyOfMerchant{n:05}"),
        api_key: format!("hufu_sk_SandboxApiKeyOfMerchant{n:05}000000000000"),
        upstream: format!("19000001{:02}", n.saturating_add(10)),
    };
    let sub = TestMerchant {
        appid: PROVIDER_APPID.to_owned(),
        mch_id: PROVIDER_MCH_ID.to_owned(),
        sub_mch_id: Some("1900000113".to_owned()),
        ..own(3)
    };
    vec![own(1), own(2), sub]
}

/// `count` merchants for a demonstration.
pub fn demo_merchants(count: u32) -> Vec<TestMerchant> {
    let merchant = |n| TestMerchant {
        appid: format!("wx{n:016}"),
        mch_id: format!("1910{n:06}"),
        sub_mch_id: None,
        key: format!("DemoSigningKeyOfMerchant{n:08}"),
        api_key: format!("hufu_sk_DemoApiKeyOfMerchant{n:08}000000000000"),
        upstream: format!("1920{n:06}"),
    };
    (1..=count).map(merchant).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PROVIDER_KEY, demo_merchants, sandbox_merchants};

    #[test]
    fn keys_have_the_shape_that_is_demanded_and_identities_differ() {
        assert!(signer::Key::new(PROVIDER_KEY).is_ok());
        let all: Vec<_> = sandbox_merchants().into_iter().chain(demo_merchants(40)).collect();
        for merchant in &all {
            assert!(signer::Key::new(&merchant.key).is_ok(), "{merchant:?}");
            assert!(merchant.api_key.starts_with("hufu_sk_") && merchant.api_key.len() >= 40);
            assert!(merchant.northbound().is_ok());
        }
        let identities: BTreeSet<_> =
            all.iter().map(|one| (one.mch_id.clone(), one.sub_mch_id.clone(), one.appid.clone())).collect();
        let upstream: BTreeSet<_> = all.iter().map(|one| one.upstream.clone()).collect();
        assert_eq!((identities.len(), upstream.len()), (all.len(), all.len()));
    }
}
