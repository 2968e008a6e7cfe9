//! Decisions that matter to a Function's author, for the operator's Recorder.

/// Something that happened to a Function's scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingEvent {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// What happened; its name is the Event's reason.
    pub kind: ScalingEventKind,
    /// Why, in words and numbers.
    pub message: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalingEventKind {
    /// More replicas than before.
    ScaledUp,
    /// Fewer replicas, at least one.
    ScaledDown,
    /// No replicas any more.
    ScaledToZero,
    /// Pods lost their CPU, because nobody asks anything of them.
    Throttled,
    /// Pods got their CPU back without a request.
    Restored,
    /// Placeholders took the place of pods' functions, because nobody asks anything of them.
    Parked,
    /// Pods got their function back without a request.
    Unparked,
    /// Pods could not be parked.
    ParkRefused,
    /// The API server refused to resize pods.
    ResizeRefused,
    /// A step down was put off again and again, because an activator does not answer.
    StepDownBlocked,
    /// The API server refused a write to `/scale` for a reason that retrying will not heal soon.
    ScaleRefused,
}

impl ScalingEventKind {
    /// The Event's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::ScaledToZero => "ScaledToZero",
            Self::Throttled => "Throttled",
            Self::Restored => "Restored",
            Self::Parked => "Parked",
            Self::Unparked => "Unparked",
            Self::ParkRefused => "ParkRefused",
            Self::ResizeRefused => "ResizeRefused",
            Self::StepDownBlocked => "StepDownBlocked",
            Self::ScaleRefused => "ScaleRefused",
        }
    }

    /// Whether the Event is a Warning.
    pub fn is_warning(self) -> bool {
        matches!(self, Self::StepDownBlocked | Self::ScaleRefused | Self::ResizeRefused | Self::ParkRefused)
    }
}
