//! Ed25519 private keys that are wiped when dropped and never printed.

use std::fmt;

use rcgen::{KeyPair, PKCS_ED25519};
use zeroize::{Zeroize, Zeroizing};

use crate::IssueError;

/// A private key.
///
/// rcgen's copy of its PKCS #8 form is wiped on drop. The expanded form inside ring cannot be
/// reached, and goes with the process.
pub(crate) struct PrivateKey(KeyPair);

impl PrivateKey {
    /// Makes a new key from the system's randomness.
    pub(crate) fn generate() -> Result<Self, IssueError> {
        KeyPair::generate_for(&PKCS_ED25519)
            .map(Self)
            .map_err(IssueError::crypto("make a key"))
    }

    /// Reads a key; none if it is not Ed25519 in PKCS #8.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519)
            .map(Self)
            .ok()
    }

    /// Returns the key as PKCS #8 PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// Returns what rcgen signs with.
    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}
