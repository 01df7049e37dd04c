//! The link's frames: there and back in any pieces, and no bytes that break the decoder.

use abi::ABI_EPOCH;
use abi::link::*;
use proptest::prelude::*;

fn frame(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).expect("the message is small");
    bytes
}

fn decode(bytes: &[u8]) -> Result<Option<Message>, LinkError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next()
}

fn one_of_each() -> Vec<Message> {
    vec![
        Message::Hello(Hello::new(Role::Control, 4_711, [7; 16])),
        Message::Region { bytes: 1 << 24 },
        Message::PublishImage {
            epoch: 3,
            image: vec![1, 2, 3],
        },
        Message::PublishChange {
            epoch: 4,
            change: vec![4, 5],
        },
        Message::Adopted {
            epoch: 3,
            workers: 2,
            received_to_published_ns: 2_000_000,
            published_to_adopted_ns: 81_000,
        },
        Message::Refused {
            epoch: 4,
            code: RefusalCode::MalformedImage,
            sentence: "section 3 ends beyond the image; compile it again".to_owned(),
        },
        Message::PolicyInForce {
            epoch: 3,
            image_hash: [9; 32],
        },
        Message::RequestImage,
        Message::Image {
            epoch: 3,
            image: vec![],
        },
        Message::Shutdown,
    ]
}

/// The bytes as `LAYOUT.md` draws them.
#[test]
fn frames_have_the_documented_bytes() {
    let hello = Message::Hello(Hello {
        abi_epoch: ABI_EPOCH,
        role: Role::Dataplane,
        process_id: 0x0102_0304,
        boot_id: *b"0123456789abcdef",
        package_version: "0.1.0".to_owned(),
    });
    let mut expected = b"RFL1\x01\0\0\0\x21\0\0\0\0\0\0\0".to_vec();
    expected.extend_from_slice(b"\x04\0\0\0\x01\0\0\0\x04\x03\x02\x010123456789abcdef0.1.0");
    assert_eq!(frame(&hello), expected);

    let adopted = Message::Adopted {
        epoch: 1,
        workers: 2,
        received_to_published_ns: 4,
        published_to_adopted_ns: 3,
    };
    let mut expected = b"RFL1\x04\0\0\0\x1c\0\0\0\0\0\0\0".to_vec();
    expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x03\0\0\0\0\0\0\0\x02\0\0\0");
    assert_eq!(frame(&adopted), expected);
    assert_eq!(frame(&Message::Shutdown), b"RFL1\x09\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn every_message_comes_back_byte_by_byte() {
    let messages = one_of_each();
    let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
    let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
    for byte in bytes {
        decoder.push(&[byte]);
        decoded.extend(decoder.next().expect("the bytes are sound"));
    }
    assert_eq!(decoded, messages);
}

#[test]
fn a_frame_cut_at_any_length_waits_for_the_rest() {
    for message in one_of_each() {
        let bytes = frame(&message);
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::new();
            decoder.push(&bytes[..cut]);
            assert_eq!(decoder.next(), Ok(None), "{message:?} cut at {cut}");
            decoder.push(&bytes[cut..]);
            assert_eq!(decoder.next(), Ok(Some(message.clone())));
            assert_eq!(decoder.next(), Ok(None));
        }
    }
}

/// A header that announces less than the fields need, at every length.
#[test]
fn a_payload_cut_at_any_length_is_malformed_or_a_shorter_text() {
    for message in one_of_each() {
        let whole = frame(&message);
        for length in 0..whole.len() - FRAME_HEADER_BYTES {
            let mut bytes = whole[..FRAME_HEADER_BYTES + length].to_vec();
            bytes[8..12].copy_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
            match decode(&bytes) {
                Err(LinkError::Malformed { bytes, .. }) => assert_eq!(bytes, length),
                Ok(Some(shorter)) => {
                    assert_eq!(
                        core::mem::discriminant(&shorter),
                        core::mem::discriminant(&message)
                    );
                    assert_ne!(shorter, message);
                }
                other => panic!("{message:?} cut to {length}: {other:?}"),
            }
        }
    }
}

#[test]
fn strangers_are_told_at_the_first_wrong_byte_and_for_ever() {
    let mut decoder = Decoder::new();
    decoder.push(b"G");
    let error = LinkError::Magic {
        found: [b'G', 0, 0, 0],
    };
    assert_eq!(decoder.next(), Err(error.clone()));
    decoder.push(&frame(&Message::Shutdown));
    assert_eq!(decoder.next(), Err(error));
}

#[test]
fn another_abi_epoch_is_refused_with_both_numbers_and_the_way_out() {
    let mut bytes = frame(&one_of_each()[0]);
    let theirs = ABI_EPOCH + 41;
    bytes[16..20].copy_from_slice(&theirs.to_le_bytes());
    let error = decode(&bytes).expect_err("another epoch");
    assert_eq!(
        error.to_string(),
        format!(
            "the control process has abi epoch {theirs}, this process has {ABI_EPOCH}; restart \
             both processes from one release"
        )
    );
    // A later contract may have another Hello; its first four bytes are enough.
    let mut foreign = b"RFL1\x01\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
    foreign.extend_from_slice(&theirs.to_le_bytes());
    let error = LinkError::Epoch {
        peer: "other",
        theirs,
        ours: ABI_EPOCH,
    };
    assert_eq!(decode(&foreign), Err(error));
}

#[test]
fn limits_are_kept_in_both_directions() {
    for (kind, bytes_max) in [
        (1u16, FRAME_BYTES_MAX),
        (3, IMAGE_FRAME_BYTES_MAX),
        (8, 1 << 30),
    ] {
        let mut header = b"RFL1\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        header[4..6].copy_from_slice(&kind.to_le_bytes());
        let bytes = bytes_max + 1;
        header[8..12].copy_from_slice(&u32::try_from(bytes).expect("fits").to_le_bytes());
        assert_eq!(
            decode(&header),
            Err(LinkError::Oversize {
                kind,
                bytes,
                bytes_max
            })
        );
        header[8..12].copy_from_slice(&u32::try_from(bytes_max).expect("fits").to_le_bytes());
        assert_eq!(decode(&header), Ok(None));
    }
    let long = "é".repeat(SENTENCE_BYTES_MAX);
    let refused = Message::Refused {
        epoch: 1,
        code: RefusalCode::NotKept,
        sentence: long,
    };
    match decode(&frame(&refused)) {
        Ok(Some(Message::Refused { sentence, .. })) => {
            assert_eq!(sentence, "é".repeat(SENTENCE_BYTES_MAX / 2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_types_reserved_bytes_and_trailing_bytes_are_refused() {
    let sound = frame(&Message::Region { bytes: 4_096 });
    let with = |index: usize, value: u8| {
        let mut bytes = sound.clone();
        bytes[index] = value;
        decode(&bytes)
    };
    assert_eq!(with(4, 0), Err(LinkError::UnknownType { kind: 0 }));
    assert_eq!(with(4, 11), Err(LinkError::UnknownType { kind: 11 }));
    for index in [6, 7, 12, 13, 14, 15] {
        assert!(
            matches!(with(index, 1), Err(LinkError::Malformed { .. })),
            "byte {index}"
        );
    }
    let mut longer = sound.clone();
    longer.push(0);
    longer[8] += 1;
    assert!(matches!(
        decode(&longer),
        Err(LinkError::Malformed { bytes: 9, .. })
    ));
}

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..bytes_max / 4).prop_map(String::from_iter)
}

fn image() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..2_000)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (
            any::<u32>(),
            any::<[u8; 16]>(),
            text(PACKAGE_VERSION_BYTES_MAX),
            any::<bool>()
        )
            .prop_map(
                |(process_id, boot_id, package_version, control)| Message::Hello(Hello {
                    abi_epoch: ABI_EPOCH,
                    role: if control {
                        Role::Control
                    } else {
                        Role::Dataplane
                    },
                    process_id,
                    boot_id,
                    package_version,
                })
            ),
        any::<u64>().prop_map(|bytes| Message::Region { bytes }),
        (any::<u64>(), image()).prop_map(|(epoch, image)| Message::PublishImage { epoch, image }),
        (any::<u64>(), image())
            .prop_map(|(epoch, change)| Message::PublishChange { epoch, change }),
        any::<(u64, u32, u64, u64)>().prop_map(
            |(epoch, workers, received_to_published_ns, published_to_adopted_ns)| {
                Message::Adopted {
                    epoch,
                    workers,
                    received_to_published_ns,
                    published_to_adopted_ns,
                }
            }
        ),
        (
            any::<u64>(),
            prop::sample::select(RefusalCode::ALL),
            text(SENTENCE_BYTES_MAX)
        )
            .prop_map(|(epoch, code, sentence)| Message::Refused {
                epoch,
                code,
                sentence
            }),
        any::<(u64, [u8; 32])>()
            .prop_map(|(epoch, image_hash)| Message::PolicyInForce { epoch, image_hash }),
        Just(Message::RequestImage),
        (any::<u64>(), image()).prop_map(|(epoch, image)| Message::Image { epoch, image }),
        Just(Message::Shutdown),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back_in_any_pieces(
        messages in prop::collection::vec(message(), 1..6),
        pieces in prop::collection::vec(1..500usize, 1..50),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
        let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
        let mut rest = &bytes[..];
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*piece));
            decoder.push(now);
            while let Some(message) = decoder.next().expect("the bytes are sound") {
                decoded.push(message);
            }
            rest = later;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    /// A sound header, random payload: what is accepted is encoded to the same bytes.
    #[test]
    fn random_payloads_never_panic(
        kind in 0..12u16,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = FRAME_MAGIC.to_vec();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&payload);
        if let Ok(Some(message)) = decode(&bytes) {
            prop_assert_eq!(frame(&message), bytes);
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(
        message in message(), at in any::<prop::sample::Index>(), bit in 0..8u32,
    ) {
        let mut bytes = frame(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = decode(&bytes);
    }
}
