//! What the chart's values `gateway` and `ingress` say, as flags of `operator run`.

use clap::Args;
use std::collections::BTreeMap;

use super::kinds::ParentRef;

/// Flags about the way in from outside.
#[derive(Clone, Debug, Default, Args)]
pub struct GatewayArgs {
    /// A parent of the HTTPRoute that each Function with an external host name gets, as JSON: {"name":"public","namespace":"edge"}, and sectionName, port,
    /// group and kind where needed. May be given several times.
    #[arg(long = "gateway-parent-ref", value_name = "JSON", value_parser = parent_ref)]
    pub gateway_parent_refs: Vec<ParentRef>,
    /// Class of the Ingress that each Function with an external host name gets. Empty: none gets one.
    #[arg(long, env = "PILOTLIGHT_INGRESS_CLASS", default_value = "")]
    pub ingress_class: String,
    /// An annotation of these Ingresses. May be given several times.
    #[arg(long = "ingress-annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    pub ingress_annotations: Vec<(String, String)>,
    /// Secret, in the Function's namespace, with the certificate for an Ingress's hosts. Empty: the Ingresses are without TLS.
    #[arg(long, env = "PILOTLIGHT_INGRESS_TLS_SECRET", default_value = "")]
    pub ingress_tls_secret: String,
}

/// What leads to Functions from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Front {
    /// HTTPRoutes attached to these.
    Gateway(Vec<ParentRef>),
    /// Ingresses.
    Ingress(IngressRules),
}

/// How Ingresses look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressRules {
    /// `ingressClassName`.
    pub class: String,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Secret for TLS.
    pub tls_secret: Option<String>,
}

impl GatewayArgs {
    /// What is asked for; `None`: nothing. Errors where it is both.
    pub fn front(&self) -> anyhow::Result<Option<Front>> {
        match (self.gateway_parent_refs.is_empty(), self.ingress_class.is_empty()) {
            (true, true) => Ok(None),
            (false, true) => Ok(Some(Front::Gateway(self.gateway_parent_refs.clone()))),
            (true, false) => Ok(Some(Front::Ingress(IngressRules {
                class: self.ingress_class.clone(),
                annotations: self.ingress_annotations.iter().cloned().collect(),
                tls_secret: Some(self.ingress_tls_secret.clone()).filter(|secret| !secret.is_empty()),
            }))),
            (false, false) => {
                anyhow::bail!("--gateway-parent-ref and --ingress-class: give one of them, or neither")
            }
        }
    }
}

fn parent_ref(text: &str) -> Result<ParentRef, String> {
    let read: Result<ParentRef, _> = serde_json::from_str(text);
    match read {
        Ok(parent) if parent.name.is_empty() => Err("name: it is empty".to_owned()),
        Ok(parent) => Ok(parent),
        Err(error) => Err(format!(
            "write a ParentReference as JSON, as in {{\"name\":\"public\",\"namespace\":\"edge\"}}: {error}"
        )),
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}
