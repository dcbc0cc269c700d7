//! A node's own keys, in one file that only its user may read.

use crate::NodeError;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use record::Digest;
use record::keys::{PublicKey, SecretKey};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The node's secrets: statement key, cosignature key, TLS key and the key that seals other secrets at rest.
/// There is no `Debug`, and the seeds are wiped on drop.
///
/// Keys that were changed are held beside the first ones: which of them the record names is for the record to say
/// ([`NodeKeys::sign_of`] and the like), since a change is known here before it is in force. What is sealed at rest
/// stays under the first seed.
pub struct NodeKeys {
    seed: Zeroizing<[u8; 32]>,
    /// Seeds of later `sign` keys, the newest last.
    signs: Vec<Seed>,
    /// Seeds of later keys of all other uses, the newest last.
    uses: Vec<Seed>,
}

type Seed = Zeroizing<[u8; 32]>;

const NEXT_HEADER: &str = "comity-next-key/1 ";

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
        Ok(NodeKeys { seed, signs: Vec::new(), uses: Vec::new() })
    }

    /// Draws the `sign` key that comes next into a file of its own, to be kept elsewhere; gives its digest, for the
    /// charter. A file that is there already is read.
    pub fn draw_next(path: &Path) -> Result<Digest, NodeError> {
        if !path.exists() {
            let mut seed = Zeroizing::new([0u8; 32]);
            getrandom::fill(seed.as_mut_slice()).map_err(|_| NodeError::Randomness)?;
            let mut open = std::fs::OpenOptions::new();
            let mut file = open
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|e| NodeError::io(path, e))?;
            let text = Zeroizing::new(format!("{NEXT_HEADER}{}\n", hex::encode(seed.as_slice())));
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|e| NodeError::io(path, e))?;
        }
        let key = SecretKey::from_seed(*NodeKeys::read_next(path)?);
        Ok(Digest::of(key.public().as_bytes()))
    }

    /// The seed in such a file.
    pub fn read_next(path: &Path) -> Result<Zeroizing<[u8; 32]>, NodeError> {
        let meta = std::fs::metadata(path).map_err(|e| NodeError::io(path, e))?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(NodeError::KeyFileOpen { path: path.display().to_string() });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| NodeError::io(path, e))?);
        let body = text.strip_prefix(NEXT_HEADER).and_then(seed_of);
        body.ok_or_else(|| NodeError::KeyFile { path: path.display().to_string() })
    }

    /// Takes in a `sign` key that was drawn before and, if `all`, draws keys of all other uses; keeps them before it
    /// returns. Done again it changes nothing. Keys that the record does not name any more (`keep` says which it does)
    /// are let go of, but for the first.
    pub fn take_next(
        &mut self,
        path: &Path,
        sign: &Zeroizing<[u8; 32]>,
        all: bool,
        keep: &dyn Fn(&PublicKey) -> bool,
    ) -> Result<(), NodeError> {
        if self.signs.last() != Some(sign) {
            self.signs.retain(|seed| keep(&SecretKey::from_seed(**seed).public()));
            self.uses
                .retain(|seed| keep(&use_of(seed, "cosign").public()) || keep(&use_of(seed, "tls").public()));
            self.signs.push(sign.clone());
            if all {
                let mut seed = Zeroizing::new([0u8; 32]);
                getrandom::fill(seed.as_mut_slice()).map_err(|_| NodeError::Randomness)?;
                self.uses.push(seed);
            }
        }
        let mut text = Zeroizing::new(format!("comity-node-key/2 {}\n", hex::encode(self.seed.as_slice())));
        for (name, seeds) in [("sign", &self.signs), ("uses", &self.uses)] {
            for seed in seeds {
                text.push_str(&format!("{name} {}\n", Zeroizing::new(hex::encode(seed.as_slice())).as_str()));
            }
        }
        let new = path.with_extension("key.new");
        let write = || {
            let _ = std::fs::remove_file(&new);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(|e| NodeError::io(path, e))
    }

    /// Reads the keys; refuses a file that others may read.
    pub fn open(path: &Path) -> Result<NodeKeys, NodeError> {
        let meta = std::fs::metadata(path).map_err(|e| NodeError::io(path, e))?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(NodeError::KeyFileOpen { path: path.display().to_string() });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| NodeError::io(path, e))?);
        let bad = || NodeError::KeyFile { path: path.display().to_string() };
        if let Some(body) = text.strip_prefix("comity-node-key/1 ") {
            let seed = seed_of(body).ok_or_else(bad)?;
            return Ok(NodeKeys { seed, signs: Vec::new(), uses: Vec::new() });
        }
        let mut lines = text.lines();
        let first = lines.next().and_then(|line| line.strip_prefix("comity-node-key/2 "));
        let mut keys =
            NodeKeys { seed: first.and_then(seed_of).ok_or_else(bad)?, signs: Vec::new(), uses: Vec::new() };
        for line in lines {
            match line.split_once(' ') {
                Some(("sign", body)) => keys.signs.push(seed_of(body).ok_or_else(bad)?),
                Some(("uses", body)) => keys.uses.push(seed_of(body).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
        Ok(keys)
    }

    /// One seed per use, by HKDF-SHA256 (RFC 5869) from the node's seed.
    pub fn derive(&self, usage: &str) -> Zeroizing<[u8; 32]> {
        derived(&self.seed, usage)
    }

    /// The newest key that signs statements and frames.
    pub fn sign(&self) -> SecretKey {
        SecretKey::from_seed(self.signs.last().map_or_else(|| *self.derive("sign"), |seed| **seed))
    }

    /// The key that signs statements and has this public half.
    pub fn sign_of(&self, public: &PublicKey) -> Option<SecretKey> {
        let first = std::iter::once(*self.derive("sign"));
        let mut all = first.chain(self.signs.iter().map(|seed| **seed)).map(SecretKey::from_seed);
        all.find(|key| key.public() == *public)
    }

    /// The newest key that cosigns checkpoints.
    pub fn cosign(&self) -> SecretKey {
        use_of(self.newest(), "cosign")
    }

    /// The keys that cosign checkpoints, of which the first has this public half.
    pub fn cosign_of(&self, public: &PublicKey) -> Option<(SecretKey, record::MlSecretKey)> {
        let seed = self.seeds().find(|seed| use_of(seed, "cosign").public() == *public)?;
        Some((use_of(seed, "cosign"), record::MlSecretKey::from_seed(*derived(seed, ML))))
    }

    fn seeds(&self) -> impl Iterator<Item = &Seed> {
        std::iter::once(&self.seed).chain(&self.uses)
    }

    fn newest(&self) -> &Seed {
        self.uses.last().unwrap_or(&self.seed)
    }

    /// Seeds of the TLS keys, the newest first.
    pub fn tls_seeds(&self) -> Vec<Zeroizing<[u8; 32]>> {
        let mut all: Vec<_> = self.seeds().map(|seed| derived(seed, "tls")).collect();
        all.reverse();
        all
    }

    /// The post-quantum key that cosigns them too, where the charter names it.
    pub fn cosign_ml(&self) -> record::MlSecretKey {
        record::MlSecretKey::from_seed(*derived(self.newest(), ML))
    }

    /// The TLS key's seed.
    pub fn tls_seed(&self) -> Zeroizing<[u8; 32]> {
        derived(self.newest(), "tls")
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

const ML: &str = "cosign-ml-dsa-44";

fn derived(seed: &Seed, usage: &str) -> Seed {
    let mut out = Zeroizing::new([0u8; 32]);
    let kdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(b"comity-node/1"), seed.as_slice());
    // 32 bytes is far below the limit of 255 hash lengths, the only way for this to fail.
    if kdf.expand(usage.as_bytes(), out.as_mut_slice()).is_err() {
        unreachable!("32 bytes are within HKDF's limit");
    }
    out
}

fn use_of(seed: &Seed, usage: &str) -> SecretKey {
    SecretKey::from_seed(*derived(seed, usage))
}

fn seed_of(hex: &str) -> Option<Seed> {
    let mut seed = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(hex.trim_end(), seed.as_mut_slice()).ok()?;
    Some(seed)
}
