//! A node's own keys, in one file that only its user may read.

use crate::NodeError;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use record::keys::{PublicKey, SecretKey};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The node's secrets: statement key, cosignature key, TLS key and the key that seals other secrets at rest.
/// There is no `Debug`, and the seeds are wiped on drop.
pub struct NodeKeys {
    seed: Zeroizing<[u8; 32]>,
}

impl NodeKeys {
    /// Draws fresh keys from the operating system and writes them, refusing to replace a file.
    pub fn create(path: &Path) -> Result<NodeKeys, NodeError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| NodeError::Randomness)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| NodeError::io(path, e))?;
        let text = Zeroizing::new(format!("comity-node-key/1 {}\n", hex::encode(seed.as_slice())));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| NodeError::io(path, e))?;
        Ok(NodeKeys { seed })
    }

    /// Reads the keys; refuses a file that others may read.
    pub fn open(path: &Path) -> Result<NodeKeys, NodeError> {
        let meta = std::fs::metadata(path).map_err(|e| NodeError::io(path, e))?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(NodeError::KeyFileOpen { path: path.display().to_string() });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| NodeError::io(path, e))?);
        let bad = || NodeError::KeyFile { path: path.display().to_string() };
        let body = text.strip_prefix("comity-node-key/1 ").ok_or_else(bad)?;
        let mut seed = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(body.trim_end(), seed.as_mut_slice()).map_err(|_| bad())?;
        Ok(NodeKeys { seed })
    }

    /// One seed per use, by HKDF-SHA256 (RFC 5869) from the node's seed.
    pub fn derive(&self, usage: &str) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0u8; 32]);
        let kdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(b"comity-node/1"), self.seed.as_slice());
        // 32 bytes is far below the limit of 255 hash lengths, the only way for this to fail.
        if kdf.expand(usage.as_bytes(), out.as_mut_slice()).is_err() {
            unreachable!("32 bytes are within HKDF's limit");
        }
        out
    }

    /// The key that signs statements and frames.
    pub fn sign(&self) -> SecretKey {
        SecretKey::from_seed(*self.derive("sign"))
    }

    /// The key that cosigns checkpoints.
    pub fn cosign(&self) -> SecretKey {
        SecretKey::from_seed(*self.derive("cosign"))
    }

    /// The post-quantum key that cosigns them too, where the charter names it.
    pub fn cosign_ml(&self) -> record::MlSecretKey {
        record::MlSecretKey::from_seed(*self.derive("cosign-ml-dsa-44"))
    }

    /// The TLS key's seed.
    pub fn tls_seed(&self) -> Zeroizing<[u8; 32]> {
        self.derive("tls")
    }

    /// Public keys in the order sign, cosign, tls.
    pub fn public(&self) -> Result<(PublicKey, PublicKey, PublicKey), NodeError> {
        let tls = SecretKey::from_seed(*self.tls_seed());
        Ok((self.sign().public(), self.cosign().public(), tls.public()))
    }

    /// Seals a secret for this node's own store; `label` is bound.
    pub fn seal(&self, label: &str, secret: &[u8]) -> Result<Vec<u8>, NodeError> {
        let mut nonce = [0u8; 12];
        getrandom::fill(&mut nonce).map_err(|_| NodeError::Randomness)?;
        let cipher = ChaCha20Poly1305::new(&Key::from(*self.derive("at-rest")));
        let payload = Payload { msg: secret, aad: label.as_bytes() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| NodeError::Sealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`NodeKeys::seal`] made.
    pub fn unseal(&self, label: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NodeError> {
        let (nonce, body) = sealed.split_at_checked(12).ok_or(NodeError::Sealed)?;
        let nonce: [u8; 12] = nonce.try_into().map_err(|_| NodeError::Sealed)?;
        let cipher = ChaCha20Poly1305::new(&Key::from(*self.derive("at-rest")));
        let payload = Payload { msg: body, aad: label.as_bytes() };
        let clear = cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| NodeError::Sealed)?;
        Ok(Zeroizing::new(clear))
    }
}
