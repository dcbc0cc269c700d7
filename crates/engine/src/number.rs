//! Whole numbers from text, exactly.

/// Most digits of a number in a source.
const MAX_DIGITS: usize = 15;

/// `text * multiply / divide + add`, rounded half to even once, at the end. `None` where `text` is not a plain
/// decimal number with the given sign, is longer than 15 digits, or the result does not fit.
pub(crate) fn scaled(text: &str, sign: char, multiply: i64, divide: i64, add: i64) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once(sign).unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let dangling = digits.contains(sign) && fraction.is_empty();
    if whole.is_empty()
        || dangling
        || !plain(whole)
        || !plain(fraction)
        || whole.len() + fraction.len() > MAX_DIGITS
    {
        return None;
    }
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let number = if negative { -number } else { number };
    let places = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let below = places.checked_mul(i128::from(divide))?;
    let above = number.checked_mul(i128::from(multiply))?.checked_add(i128::from(add).checked_mul(below)?)?;
    i64::try_from(round_half_even(above, below)?).ok()
}

fn round_half_even(above: i128, below: i128) -> Option<i128> {
    let (above, below) =
        if below < 0 { (above.checked_neg()?, below.checked_neg()?) } else { (above, below) };
    if below == 0 {
        return None;
    }
    let (floor, rest) = (above.div_euclid(below), above.rem_euclid(below));
    let up = match rest.checked_mul(2)?.cmp(&below) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => floor % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    Some(floor + i128::from(up))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_round_to_even_after_everything_else() {
        let cases = [
            (("69", 1, 1, 0), Some(69)),
            (("69.0", 1, 1, 0), Some(69)),
            (("-7", 1, 1, 0), Some(-7)),
            (("0.5", 1, 1, 0), Some(0)),
            (("1.5", 1, 1, 0), Some(2)),
            (("2.5", 1, 1, 0), Some(2)),
            (("-0.5", 1, 1, 0), Some(0)),
            (("-1.5", 1, 1, 0), Some(-2)),
            (("0.5", 1, 1, 1), Some(2)), // 1.5 rounds to 2, not 0 + 1
            (("37.4", 10, 1, 0), Some(374)),
            (("95", 1, 1, 1900), Some(1995)),
            (("7", 1, -2, 0), Some(-4)), // -3.5 rounds to -4
        ];
        for ((text, multiply, divide, add), expected) in cases {
            assert_eq!(
                scaled(text, '.', multiply, divide, add),
                expected,
                "{text} {multiply} {divide} {add}"
            );
        }
        assert_eq!(scaled("12,5", ',', 2, 1, 0), Some(25));
    }

    #[test]
    fn what_is_not_a_plain_number_is_refused() {
        for text in
            ["", "-", ".", "1.", ".5", "+1", " 1", "1 ", "1e3", "0x1", "1,5", "1.2.3", "--1", "٣", "nan"]
        {
            assert_eq!(scaled(text, '.', 1, 1, 0), None, "{text}");
        }
        assert_eq!(scaled("1234567890123456", '.', 1, 1, 0), None);
        assert_eq!(scaled("999999999999999", '.', i64::MAX, 1, 0), None);
        assert_eq!(scaled("0.000000000000001", '.', i64::MAX, i64::MAX, i64::MAX), None);
    }

    proptest! {
        #[test]
        fn whole_numbers_stay_what_they_are(number in -999_999_999_999_999i64..=999_999_999_999_999) {
            prop_assert_eq!(scaled(&number.to_string(), '.', 1, 1, 0), Some(number));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-0-9.,e]{0,20}", m in any::<i64>(), d in any::<i64>(), a in any::<i64>()) {
            let _ = scaled(&text, '.', m, d, a);
        }
    }
}
