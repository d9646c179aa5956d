use super::{FAILOVER, stage::Description};
use crate::{chaos::load::Load, harness::redis::RedisServer};

/// The ways in which a node becomes unavailable for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Harm {
    Kill,
    Silence,
    ShortSilence,
    CutOff,
}

impl Harm {
    pub(super) const fn describe(self) -> Description {
        let (name, in_quick) = match self {
            Self::Kill => ("primary killed, and brought back", true),
            Self::Silence => ("primary silent, goes on when all are served again", false),
            Self::ShortSilence => ("primary silent, goes on right after the failover", false),
            Self::CutOff => ("primary cut off the network, and brought back", false),
        };
        Description { name, in_quick, cuts: matches!(self, Self::CutOff) }
    }

    pub(super) async fn strike(self, node: &RedisServer) {
        match self {
            Self::Kill => node.kill().await,
            Self::Silence | Self::ShortSilence => node.pause().await,
            Self::CutOff => node.cut_off().await,
        }
    }

    /// Restores a former primary, and waits until it is a replica.
    pub(super) async fn heal(self, node: &RedisServer, load: &Load) {
        if self != Self::ShortSilence {
            load.settled().await;
        }
        match self {
            Self::Kill => node.start_again().await,
            Self::Silence | Self::ShortSilence => node.unpause().await,
            Self::CutOff => node.reconnect().await,
        }
        node.follows_within(FAILOVER).await;
    }
}
