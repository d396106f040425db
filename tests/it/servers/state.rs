//! The Redis that the nodes of a cluster share: one, several with a replica each, or a primary that
//! Sentinels watch.

use super::{Redis, RedisCluster, Sentinels};

pub(crate) enum State {
    One(Redis),
    Cluster(RedisCluster),
    Sentinels(Sentinels),
}

impl State {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Sentinels(group) => group.url(),
        }
    }

    pub(super) fn one(&self) -> &Redis {
        let Self::One(redis) = self else { panic!("there are several") };
        redis
    }

    pub(super) fn one_mut(&mut self) -> &mut Redis {
        let Self::One(redis) = self else { panic!("there are several") };
        redis
    }

    /// From now on the replica hears nothing of what its primary acknowledges.
    pub(crate) fn cut_replica(&self) {
        let Self::Sentinels(group) = self else { panic!("it has no single replica") };
        group.cut_replica();
    }

    /// Kills the primary that has this key.
    pub(crate) fn kill_primary_of(&mut self, key: &str) {
        match self {
            Self::One(redis) => redis.kill(),
            Self::Cluster(cluster) => cluster.kill(cluster.of(key)),
            Self::Sentinels(group) => group.kill_primary(),
        }
    }

    /// Waits until a replica has taken the place of the one that was killed.
    pub(crate) fn promoted(&self) {
        match self {
            Self::One(_) => panic!("it has no replica"),
            Self::Cluster(cluster) => cluster.promoted(),
            Self::Sentinels(group) => group.promoted(),
        }
    }
}
