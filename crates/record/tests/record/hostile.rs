//! Bytes from a party that means harm: refused, never a panic, and never two readings of one text.

use proptest::prelude::*;
use record::keys::pae;
use record::statement::{MAX_SIGNATURES, MAX_SIGNED_BYTES, StatementError};
use record::{
    Bundle, Cosignature, Digest, Entry, PublicKey, SecretKey, SignedCheckpoint, SignedStatement, Value,
};

use crate::federation::{World, key, public, signed, statement, text, vote};

#[test]
fn a_statement_is_kept_and_signed_verbatim() {
    let vote = vote("gb", "aspirin");
    let bytes = vote.to_bytes();
    let read = SignedStatement::from_bytes(&bytes).unwrap();
    assert_eq!(read, vote);
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(read.id(), Digest::of(read.bytes()));
    assert!(bytes.ends_with(read.bytes()));
    read.verify().unwrap();
    assert_eq!(read.signatures()[0].alg, "ed25519");
    // The signature is over the DSSE encoding of the JSON, by the letter.
    let json = read.bytes();
    let message =
        [b"DSSEv1 37 application/vnd.comity.statement+json ", json.len().to_string().as_bytes(), b" ", json]
            .concat();
    assert!(public("gb", "sign").verify_strict(&message, &read.signatures()[0].sig).is_ok());
    assert_eq!(pae("t", b"body"), b"DSSEv1 1 t 4 body");
}

#[test]
fn an_entry_has_one_spelling() {
    let entry = Entry::new(1_700_000_000_000, vote("gb", "aspirin"));
    let good = String::from_utf8(entry.to_bytes()).unwrap();
    assert_eq!(Entry::from_bytes(good.as_bytes()).unwrap(), entry);
    let change = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "`{from}` is not in the entry");
        changed
    };
    for bad in [
        change("comity-entry/1", "comity-entry/2"),
        change("comity-statement/1", "comity-statement/2"),
        change("time 17", "time +17"),
        change("time 17", "time 017"),
        change("time 17", "time  17"),
        change("time 1700000000000", "time "),
        change("time 1700000000000", "time 99999999999999999999"),
        change("\ntime", "\r\ntime"),
        change("sig ed25519 ", "sig  ed25519 "),
        change("sig ed25519 ", "sig ml-dsa-44 "),
        change("sig ed25519 ", ""),
        change("\n\n{", "\n{"),
        change("\n\n{", "\n\n\n{"),
        change("\n\n{", "\n\n {"),
        change("\"actor\"", "\"actor\" "),
        change("\"body\":{", "\"actor\":\"director\",\"body\":{"),
        change("\"body\":{", "\"basis\":null,\"body\":{"),
        change("\"actor\":\"director\",", ""),
        change("\"type\":", "\"typ\":"),
        change("\"issuer\":\"gb\"", "\"issuer\":\"GB\""),
        change("decision.vote@1", "decision.vote"),
        change("\"subject\":\"decision-1\"", "\"subject\":\"\""),
        change("\"vote\":\"yes\"", "\"vote\":1.5"),
        format!("{good}\n"),
        format!(" {good}"),
    ] {
        assert!(Entry::from_bytes(bad.as_bytes()).is_err(), "accepted:\n{bad}");
    }
}

#[test]
fn a_signature_line_stands_once_and_there_is_room_for_sixteen() {
    let mut many = vote("gb", "aspirin");
    for i in 1..MAX_SIGNATURES {
        many.add_signature(&key(&format!("m{i}"), "sign")).unwrap();
    }
    many.add_signature(&key("gb", "sign")).unwrap();
    assert_eq!(many.signatures().len(), MAX_SIGNATURES, "a second by one key changes nothing");
    assert!(many.add_signature(&key("m99", "sign")).is_err());
    let bytes = many.to_bytes();
    SignedStatement::from_bytes(&bytes).unwrap().verify().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let line = text.lines().nth(1).unwrap();
    assert!(
        SignedStatement::from_bytes(text.replacen(line, &format!("{line}\n{line}"), 1).as_bytes()).is_err()
    );
    let seventeenth = format!("{line}\nsig ed25519 {} {}", public("m99", "sign"), many.signatures()[0].sig);
    assert!(SignedStatement::from_bytes(text.replacen(line, &seventeenth, 1).as_bytes()).is_err());
    let unknown = format!("sig ml-dsa-44 00 00\n{line}");
    let error = SignedStatement::from_bytes(text.replacen(line, &unknown, 1).as_bytes()).unwrap_err();
    assert_eq!(error, StatementError::Algorithm("ml-dsa-44".to_owned()));
}

#[test]
fn the_longest_statement_fits_an_entry_and_a_longer_one_is_refused() {
    let of = |n: usize| {
        let body = text(&[("text", "x".repeat(n))]);
        SignedStatement::sign(statement("a.b@1", "s", "gb", body), &key("gb", "sign"))
    };
    let overhead = of(0).unwrap().to_bytes().len();
    let longest = of(MAX_SIGNED_BYTES - overhead).unwrap();
    let entry = Entry::new(i64::MIN, longest).to_bytes();
    assert!(entry.len() <= record::entry::MAX_ENTRY_BYTES);
    assert!(Entry::from_bytes(&entry).is_ok());
    assert!(matches!(of(MAX_SIGNED_BYTES - overhead + 1), Err(StatementError::TooLong { .. })));
}

#[test]
fn keys_of_small_order_and_keys_in_odd_encodings_are_refused() {
    let mut refused: Vec<[u8; 32]> = Vec::new();
    let mut one = [0; 32];
    one[0] = 1;
    refused.push(one); // the neutral element
    refused.push([0; 32]); // order 4
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    refused.push(minus_one); // order 2
    for low in 0xed..=0xff {
        let mut high = [0xff; 32];
        (high[0], high[31]) = (low, 0x7f);
        refused.push(high); // y = p and above
        high[31] = 0xff;
        refused.push(high);
    }
    for bytes in refused {
        assert!(PublicKey::from_bytes(bytes).is_err(), "{}", hex(&bytes));
    }
    let good = public("gb", "sign").to_string();
    assert!(good.parse::<PublicKey>().is_ok());
    assert!(good.to_uppercase().parse::<PublicKey>().is_err());
    // RFC 8032 section 7.1, test 1.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let mut bytes = [0; 32];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap();
    }
    let secret = SecretKey::from_seed(bytes);
    assert_eq!(
        secret.public().to_string(),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    assert_eq!(
        hex(secret.sign(b"").as_bytes()),
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    );
    assert_eq!(*secret.to_seed(), bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_signature_with_a_commitment_of_small_order_is_refused() {
    // R is the neutral element and S = k a, computed from the secret key of RFC 8032 test 1: the equation of
    // verification holds, and a lax verifier takes it.
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let sig = "0100000000000000000000000000000000000000000000000000000000000000520a2e25b0f11547a9ae2ad848ed7731c77f99f1a8712d363455d344db33ac04";
    let mut bytes = [0; 64];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = u8::from_str_radix(&sig[2 * i..2 * i + 2], 16).unwrap();
    }
    let key: PublicKey = key.parse().unwrap();
    let lax = ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).unwrap();
    let theirs = ed25519_dalek::Signature::from_bytes(&bytes);
    assert!(ed25519_dalek::Verifier::verify(&lax, b"message", &theirs).is_ok());
    assert!(key.verify_strict(b"message", &record::Signature::from_bytes(bytes)).is_err());
}

#[test]
fn a_malleable_signature_is_refused() {
    // S + L is the same signature to a lax verifier.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut sig = *key("gb", "sign").sign(b"message").as_bytes();
    assert!(public("gb", "sign").verify_strict(b"message", &record::Signature::from_bytes(sig)).is_ok());
    let mut carry = 0_u16;
    for (s, l) in sig[32..].iter_mut().zip(L) {
        carry += u16::from(*s) + u16::from(l);
        *s = carry as u8;
        carry >>= 8;
    }
    assert!(public("gb", "sign").verify_strict(b"message", &record::Signature::from_bytes(sig)).is_err());
}

#[test]
fn a_note_has_one_spelling() {
    let world = World::new(&["gb", "it"]);
    let note = world.cosigned(2).to_note();
    assert_eq!(SignedCheckpoint::parse(&note).unwrap().to_note(), note);
    let lines: Vec<&str> = note.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 7);
    let order = |order: &[usize]| order.iter().map(|i| lines[*i]).collect::<String>();
    for bad in [
        String::new(),
        "\n\n".to_owned(),
        order(&[0, 1, 2, 3]),
        order(&[0, 1, 2, 3, 5, 6]),
        order(&[0, 1, 2, 3, 5, 4, 6]),
        order(&[0, 1, 2, 3, 4, 6, 5]),
        order(&[0, 1, 2, 3, 4, 5, 5, 6]),
        order(&[0, 1, 2, 3, 4, 4, 5, 6]),
        order(&[0, 1, 3, 4]),
        order(&[0, 2, 1, 3, 4]),
        order(&[1, 2, 3, 4]),
        note.trim_end().to_owned(),
        format!("{note}\n"),
        format!("\n{note}"),
        note.replace("\n3\n", "\n03\n"),
        note.replace("\n3\n", "\n+3\n"),
        note.replace("\n3\n", "\n-3\n"),
        note.replace("\n3\n", "\n18446744073709551616\n"),
        note.replace("\n\n", "\nan extension line\n\n"),
        note.replace("— gb", "- gb"),
        note.replace("— gb ", "— gb  "),
        note.replace("— gb ", "— g+b "),
        note.replace('\n', "\r\n"),
        note.replace("=\n", "\n"),
        format!("{note}{}", "x".repeat(70_000)),
    ] {
        assert_ne!(bad, note);
        assert!(SignedCheckpoint::parse(&bad).is_err(), "accepted:\n{bad}");
    }
    for bad in [
        "",
        "\n",
        "— gb\n",
        "— gb AAAA\n",
        "— gb AAAAAAAA\n",
        lines[4],
        &lines[5].replace('\n', ""),
        &lines[5].repeat(2),
    ] {
        assert!(Cosignature::from_line(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Entry::from_bytes(&bytes).is_err());
        prop_assert!(SignedStatement::from_bytes(&bytes).is_err());
        prop_assert!(Bundle::read(&bytes).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(SignedCheckpoint::parse(&text).is_err());
        prop_assert!(Cosignature::from_line(&text).is_err());
    }

    #[test]
    fn a_damaged_text_is_refused_or_read_as_what_it_says(at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 0..4), cut in 0..4_usize) {
        let damage = |bytes: &[u8]| {
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            [&bytes[..at], &with[..], &bytes[end..]].concat()
        };
        let entry = damage(&Entry::new(7, vote("gb", "aspirin")).to_bytes());
        if let Ok(read) = Entry::from_bytes(&entry) {
            prop_assert_eq!(read.to_bytes(), entry);
        }
        let note = damage(World::new(&["gb"]).cosigned(1).to_note().as_bytes());
        if let Ok(text) = std::str::from_utf8(&note)
            && let Ok(read) = SignedCheckpoint::parse(text)
        {
            prop_assert_eq!(read.to_note(), text);
        }
    }

    #[test]
    fn any_statement_survives_the_round_trip(subject in "[^\\p{C}]{1,40}", actor in "[^\\p{C}]{1,20}", note in any::<String>(), n in any::<i32>(), until in prop::option::of(0..9_007_199_254_740_991_i64)) {
        let body = Value::List(vec![Value::Str(note), Value::Int(i64::from(n))]);
        let mut made = statement("a.b@1", &subject, "gb", body);
        made.actor = actor;
        made.valid_until = until;
        let signed = SignedStatement::sign(made.clone(), &key("gb", "sign")).unwrap();
        let read = SignedStatement::from_bytes(&signed.to_bytes()).unwrap();
        prop_assert!(read.verify().is_ok());
        prop_assert_eq!(read.statement(), &made);
    }
}

#[test]
fn every_changed_byte_of_a_statement_breaks_its_signature() {
    let bytes = signed("a.b@1", "s", "gb", text(&[("k", "v".to_owned())])).to_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(
                !SignedStatement::from_bytes(&changed).is_ok_and(|s| s.verify().is_ok()),
                "byte {at} bit {bit}"
            );
        }
    }
}
