//! A change laid over its base is the whole image, or is refused as the whole image is.

use abi::image::change::ChangeWriter;
use abi::image::{Header, RuleRow, SECTIONS_OFFSET, Section, SectionEntry, VerdictRow, reseal};
use acl::{ImageError, PolicyImage};
use zerocopy::FromBytes;

const SHOP: &[u8] = include_bytes!("../fixtures/shop.image");

fn shop() -> PolicyImage {
    PolicyImage::check(SHOP).expect("the fixture is an image")
}

/// Where a section's rows are in an image.
fn place(bytes: &[u8], section: Section) -> core::ops::Range<usize> {
    let at = size_of::<Header>() + usize::from(section.byte() - 1) * size_of::<SectionEntry>();
    let (entry, _) = SectionEntry::read_from_prefix(&bytes[at..]).expect("an entry");
    let number = |number: u64| usize::try_from(number).expect("small");
    let first = number(entry.offset.get());
    first..first + number(entry.count.get()) * section.row_bytes()
}

/// The shop with some bytes changed, another epoch, and checksums that say all is right.
fn forged(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = SHOP.to_vec();
    change(&mut bytes);
    let (header, _) = Header::mut_from_prefix(&mut bytes).expect("a header");
    header.epoch.set(2);
    reseal(&mut bytes);
    bytes
}

/// The change of the shop to an image that need not be one.
fn change_to(bytes: &[u8]) -> Vec<u8> {
    let (base, _) = Header::ref_from_prefix(SHOP).expect("a header");
    let mut change = ChangeWriter::new(base, &bytes[..SECTIONS_OFFSET]);
    for section in Section::ALL {
        let rows = |of: &'static [u8]| &of[place(SHOP, *section)];
        change.compare(*section, rows(SHOP), &bytes[place(SHOP, *section)]);
    }
    change.finish()
}

/// An image in which another rule is enforced and a verdict has another coverage.
fn other() -> Vec<u8> {
    forged(|bytes| {
        let rules = place(bytes, Section::Rules);
        let rules = <[RuleRow]>::mut_from_bytes(&mut bytes[rules]).expect("rules");
        rules[2].mode = 3;
        let verdicts = place(bytes, Section::Verdicts);
        let verdicts = <[VerdictRow]>::mut_from_bytes(&mut bytes[verdicts]).expect("verdicts");
        verdicts[1].coverage = 3 - verdicts[1].coverage;
    })
}

fn whole(bytes: &[u8]) -> Result<PolicyImage, ImageError> {
    PolicyImage::check(bytes)
}

#[test]
fn a_change_makes_the_whole_image_of_its_base_and_sends_only_what_differs() {
    let other = whole(&other()).expect("sound");
    let change = other.change_from(&shop());
    assert_eq!(change, change_to(&other.bytes()));
    assert!(change.len() < 1_100, "{} bytes", change.len());
    let changed = shop().check_change(&change).expect("a sound change");
    assert_eq!(changed.bytes(), other.bytes());
    assert_eq!(format!("{changed:?}"), format!("{other:?}"));
    // And back again, where most of it is shared.
    let back = changed.check_change(&shop().change_from(&other));
    assert_eq!(
        format!("{:?}", back.expect("sound")),
        format!("{:?}", shop())
    );
}

#[test]
fn tables_that_did_not_change_are_shared() {
    let shop = shop();
    let changed = shop.check_change(&change_to(&other())).expect("sound");
    let shared = shop.tables().into_iter().zip(changed.tables());
    let shared: Vec<bool> = shared.map(|(one, other)| one == other).collect();
    // All but row sets, which hold verdicts, and verdicts.
    assert_eq!(shared, [true, true, true, true, true, false, true, false]);
}

#[test]
fn a_change_of_another_image_is_refused_by_name() {
    let other = whole(&other()).expect("sound");
    let change = shop().change_from(&other);
    let error = shop().check_change(&change).expect_err("another base");
    assert!(matches!(error, ImageError::Base { base_epoch: 2, .. }));
    assert!(
        error.to_string().contains("publish the whole image"),
        "{error}"
    );
}

#[test]
fn every_flipped_byte_of_a_change_and_every_cut_is_refused() {
    let shop = shop();
    let mut change = change_to(&other());
    for at in 0..change.len() {
        assert!(shop.check_change(&change[..at]).is_err(), "cut at {at}");
        for flip in [0x01, 0x80, 0xff] {
            change[at] ^= flip;
            assert!(shop.check_change(&change).is_err(), "byte {at}, {flip:#x}");
            change[at] ^= flip;
        }
    }
    assert!(shop.check_change(&change).is_ok());
    change.push(0);
    assert_eq!(shop.check_change(&change).err(), Some(ImageError::Change));
}

#[test]
fn a_damaged_section_is_named() {
    let mut change = change_to(&other());
    let last = change.len() - 1;
    change[last] ^= 1;
    let error = shop().check_change(&change).expect_err("damaged");
    let text = error.to_string();
    assert!(
        text.contains("section rules") && text.contains("publish it again"),
        "{text}"
    );
}

/// Whatever a forger with right checksums writes, a change is taken or refused as the whole is, with
/// the same words: no row escapes its questions because it was not sent.
#[test]
fn a_forged_change_is_taken_or_refused_as_the_whole_image_is() {
    let shop = shop();
    let (mut accepted, mut refused) = (0, 0);
    for at in (SECTIONS_OFFSET..SHOP.len()).step_by(4) {
        for word in [u32::MAX, 1 + u32::try_from(at % 5).expect("small")] {
            let bytes = forged(|bytes| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes()));
            if Section::ALL
                .iter()
                .all(|section| !place(SHOP, *section).contains(&(at + 3)))
            {
                continue;
            }
            match (whole(&bytes), shop.check_change(&change_to(&bytes))) {
                (Ok(whole), Ok(changed)) => {
                    accepted += 1;
                    assert_eq!(whole.bytes(), changed.bytes(), "byte {at}");
                    if accepted % 32 == 0 {
                        assert_eq!(format!("{whole:?}"), format!("{changed:?}"), "byte {at}");
                    }
                }
                (whole, changed) => {
                    refused += 1;
                    assert_eq!(whole.err(), changed.err(), "byte {at}, {word:#x}");
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 1_000, "{accepted} {refused}");
}
