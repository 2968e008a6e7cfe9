//! What is told of it: who does what, and what to do about it.

use kube::ResourceExt;
use pilotlight_crds::Function;

use super::{Contention, Field};

impl Contention {
    /// Who does what, and what to do about it.
    pub fn message(&self, function: &Function) -> String {
        match self.field {
            Field::Replicas => self.of_deployment(function),
            Field::Selector => self.of_service(),
        }
    }

    fn of_deployment(&self, function: &Function) -> String {
        let (manager, scale, deployment, name) =
            (&self.write.manager, self.write.scale, &self.object, function.name_any());
        let adopted = function.spec.target_ref.is_some();
        let way = if scale { "by /scale" } else { "in its spec" };
        let remedy = match manager.as_str() {
            "kube-controller-manager" if scale => format!(
                "delete the HorizontalPodAutoscaler whose target it is, and set spec.scaling of the Function {name} instead"
            ),
            kubectl if kubectl.starts_with("kubectl") && adopted && !scale => {
                format!("leave replicas out of what is applied, and set spec.scaling of the Function {name} instead")
            }
            kubectl if kubectl.starts_with("kubectl") => format!(
                "scale the Function instead: `kubectl scale function {name} --replicas N` sets spec.scaling.minReplicas"
            ),
            argo if argo.contains("argocd") && adopted => {
                format!("ignore /spec/replicas of this Deployment in the Application's ignoreDifferences{RESPECT}")
            }
            argo if argo.contains("argocd") => {
                "let the Application manage the Function only, or ignore /spec/replicas of Deployments in its ignoreDifferences".to_owned()
            }
            _ => format!("let it leave the replicas alone, and set spec.scaling of the Function {name} instead"),
        };
        format!(
            "{manager:?} wrote the replicas of Deployment {deployment} {way}; Pilotlight sets them by load and undoes that: {remedy}"
        )
    }

    fn of_service(&self) -> String {
        let (manager, service) = (&self.write.manager, &self.object);
        let remedy = match manager.as_str() {
            argo if argo.contains("argocd") => {
                format!("ignore /spec/selector of this Service in the Application's ignoreDifferences{RESPECT}")
            }
            kubectl if kubectl.starts_with("kubectl") => {
                "leave the selector out of what is applied; deleting the Function gives it back".to_owned()
            }
            _ => "let it ignore /spec/selector of this Service; deleting the Function gives it back".to_owned(),
        };
        format!(
            "{manager:?} wrote the selector of Service {service}, which leads clients past the activators; Pilotlight takes it away again: {remedy}"
        )
    }
}

/// Argo CD compares without what is ignored, and would write it all the same.
const RESPECT: &str = ", with the sync option RespectIgnoreDifferences=true";
