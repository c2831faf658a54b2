//! A stored function's manifest, which lists the function's versions and says which one serves. A
//! manifest is plain data and is stored as JSON.

use super::options::DeployOptions;
use serde::{Deserialize, Serialize};

/// The manifest format. If a manifest has another format, a later version of lunatic wrote it, and
/// it is not read.
const FORMAT: u32 = 1;

/// A stored function.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    #[serde(rename = "form")]
    format: u32,
    /// Which version serves.
    pub(crate) current: u64,
    /// The versions that have been kept, oldest first.
    pub(crate) versions: Vec<StoredVersion>,
}

/// A stored version of a function.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredVersion {
    pub(crate) number: u64,
    /// The hash of its wasm, under which the wasm is stored.
    #[serde(with = "hex")]
    pub(crate) hash: blake3::Hash,
    /// The size of its wasm, in bytes.
    pub(crate) size: u64,
    /// When the version was deployed, as text.
    pub(crate) deployed: String,
    /// The options requested by its deploy. The service's defaults supply the rest each time the
    /// version is loaded.
    #[serde(default, rename = "asked")]
    pub(super) options: DeployOptions,
}

/// Why a manifest is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has format {0}, but this version of lunatic reads only format {FORMAT}")]
    Format(u32),
    #[error("its versions are not in order, or the one being served, {0}, is not among them")]
    Versions(u64),
    #[error(
        "it has version {}, the highest possible number, so no version can follow it",
        u64::MAX
    )]
    LastNumber,
}

impl Manifest {
    /// Reads a manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Format(manifest.format));
        }
        let is_in_order = manifest
            .versions
            .is_sorted_by(|one, next| one.number < next.number);
        if !is_in_order || manifest.version(manifest.current).is_none() {
            return Err(ManifestError::Versions(manifest.current));
        }
        if manifest.version(u64::MAX).is_some() {
            return Err(ManifestError::LastNumber);
        }
        Ok(manifest)
    }

    /// Returns the manifest as it is stored.
    pub(crate) fn text(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a manifest can be serialized as JSON")
    }

    /// Returns the manifest with a new version added, which then serves. Keeps only the newest
    /// `kept` versions.
    pub(crate) fn with(before: Option<&Manifest>, version: StoredVersion, kept: usize) -> Manifest {
        let current = version.number;
        let mut versions = before.map_or_else(Vec::new, |before| before.versions.clone());
        versions.push(version);
        versions.drain(..versions.len().saturating_sub(kept.max(1)));
        Manifest {
            format: FORMAT,
            current,
            versions,
        }
    }

    /// Returns the manifest with a different version serving, or `None` if it does not have that
    /// version.
    pub(crate) fn serving(&self, number: u64) -> Option<Manifest> {
        self.version(number).map(|_| Manifest {
            current: number,
            ..self.clone()
        })
    }

    /// Returns the number of the next version.
    pub(crate) fn next(&self) -> u64 {
        self.versions.last().map_or(1, |last| last.number + 1)
    }

    /// Returns a version.
    pub(crate) fn version(&self, number: u64) -> Option<&StoredVersion> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }

    /// Returns the version that serves.
    pub(crate) fn current(&self) -> &StoredVersion {
        self.version(self.current)
            .expect("a manifest is checked when it is read or created")
    }

    /// Returns the version before the one that serves. A rollback goes back to it by default.
    pub(crate) fn previous(&self) -> Option<u64> {
        self.versions
            .iter()
            .rev()
            .map(|version| version.number)
            .find(|&number| number < self.current)
    }
}

/// Serializes a hash as 64 hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        hash: &blake3::Hash,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<blake3::Hash, D::Error> {
        blake3::Hash::from_hex(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> StoredVersion {
        let hash = blake3::hash(&number.to_le_bytes());
        StoredVersion {
            number,
            hash,
            size: 8,
            deployed: "2026-01-31T12:00:00Z".into(),
            options: DeployOptions::default(),
        }
    }

    fn numbers(manifest: &Manifest) -> Vec<u64> {
        manifest
            .versions
            .iter()
            .map(|version| version.number)
            .collect()
    }

    #[test]
    fn the_newest_versions_are_kept() {
        let mut manifest = Manifest::with(None, version(1), 3);
        assert_eq!(manifest.previous(), None);
        for number in 2..=5 {
            assert_eq!(manifest.next(), number);
            manifest = Manifest::with(Some(&manifest), version(number), 3);
        }
        assert_eq!(
            (numbers(&manifest), manifest.current, manifest.previous()),
            (vec![3, 4, 5], 5, Some(4))
        );
        assert!(manifest.serving(2).is_none());
        let back = manifest.serving(3).expect("version 3 is kept");
        assert_eq!((back.current, back.next(), back.previous()), (3, 6, None));
    }

    #[test]
    fn a_written_manifest_is_read_back_unchanged() {
        let manifest = Manifest::with(Some(&Manifest::with(None, version(1), 9)), version(2), 9);
        let read = Manifest::parse(&manifest.text()).expect("the manifest was just written");
        assert!(read == manifest);
    }

    #[test]
    fn invalid_manifests_are_refused() {
        let text = String::from_utf8(Manifest::with(None, version(1), 9).text())
            .expect("the text is JSON");
        for (bad, why) in [
            (String::new(), "it is not a manifest"),
            (text[..text.len() - 9].to_string(), "it is not a manifest"),
            (text.replace("\"form\": 1", "\"form\": 2"), "format 2"),
            (text.replace("\"current\": 1", "\"current\": 7"), "7"),
            (text.replace("\"number\"", "\"nummer\""), "nummer"),
        ] {
            let error = Manifest::parse(bad.as_bytes())
                .err()
                .expect("the manifest is invalid")
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
