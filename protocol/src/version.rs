//! Which versions of the format a build speaks, and how both ends agree.

use std::fmt;

/// The version this build writes, the first byte of every frame.
pub const PROTOCOL_VERSION: u8 = 1;

/// The versions this build reads.
pub const SUPPORTED_VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// An inclusive range of protocol versions. The streamer sends its own as the
/// plugin options `proto_min` and `proto_max`; the plugin picks the highest
/// version that both know, or refuses to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    pub min: u8,
    pub max: u8,
}

impl VersionRange {
    /// The highest version in both ranges, if there is one.
    pub fn agree(self, other: VersionRange) -> Option<u8> {
        let min = self.min.max(other.min);
        let max = self.max.min(other.max);
        (min <= max).then_some(max)
    }

    pub fn contains(self, version: u8) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VersionRange;

    #[test]
    fn both_ends_agree_on_the_highest_common_version() {
        let old = VersionRange { min: 1, max: 2 };
        let new = VersionRange { min: 2, max: 5 };
        assert_eq!(old.agree(new), Some(2));
        assert_eq!(new.agree(old), Some(2));
        assert_eq!(old.agree(VersionRange { min: 3, max: 5 }), None);
    }
}
