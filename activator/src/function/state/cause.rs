//! What a caller is told whose wait ends without a ready pod.

use super::State;

impl<W> State<W> {
    /// The best known reason why no pod is ready yet.
    pub fn best_cause(&self) -> (String, String) {
        if let Some(cause) = &self.cause {
            return (cause.reason.clone(), cause.message.clone());
        }
        if self.config.revision.is_none() {
            let text = "the operator has not routed this Function to a revision yet; is it running?";
            return ("NotReconciled".into(), text.into());
        }
        if let Some((reason, message)) = &self.trouble {
            return (reason.clone(), message.clone());
        }
        let revision = self.config.revision.as_ref();
        let mut live = self.pods.iter().filter(|p| p.is_live() && Some(&p.revision) == revision).peekable();
        if live.peek().is_none() {
            return ("NoPod".into(), "no pod of the active revision was created yet".into());
        }
        if live.all(|pod| pod.address.is_none()) {
            return ("PodStarting".into(), "the pod has no IP yet".into());
        }
        ("PodNotAnswering".into(), "the pod runs and does not answer its probe yet".into())
    }
}
