//! Names of errnos, including those that only the kernel uses, such as `ERESTARTSYS`.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use pinwatch_common::cause::ERRNO_CLASSES;

/// Errno of a call that returned an error; `None` if it succeeded. The return value can be forged: one that
/// no `i32` can negate becomes `i32::MAX`, which is no errno.
#[must_use]
pub fn errno_of(returned: i64) -> Option<i32> {
    let errno = returned.checked_neg().unwrap_or(i64::MAX);
    (returned < 0).then(|| errno.try_into().unwrap_or(i32::MAX))
}

/// Name of a positive errno; its number if it has no name.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    if let Some((_, name)) = ERRNO_CLASSES.iter().find(|(number, _)| *number == errno) {
        return (*name).to_owned();
    }
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => errno.to_string(),
        known => format!("{known:?}"),
    }
}

/// Parses an errno given as a name, in any case, or as a number.
pub fn parse_errno(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let mut known = 1..=ERRNO_CLASSES
        .iter()
        .map(|(number, _)| *number)
        .max()
        .unwrap_or(0);
    known
        .find(|number| errno_name(*number) == upper)
        .ok_or_else(|| {
            format!("{text} is not an errno; give a name such as ENOMEM, or a number such as 12")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_by_name_and_number() {
        for name in ["ENOMEM", "ENOSPC", "EHWPOISON", "ERESTARTSYS"] {
            assert_eq!(errno_name(parse_errno(name).unwrap()), name);
        }
        assert_eq!(parse_errno("efault"), Ok(14));
        assert_eq!(parse_errno("12"), Ok(12));
        assert!(parse_errno("ENOSUCH").is_err());
        assert_eq!(errno_name(529), "529");
    }

    #[test]
    fn errno_of_any_return_value() {
        for (returned, errno) in [
            (0, None),
            (i64::MAX, None),
            (-1, Some(1)),
            (-4095, Some(4095)),
            (-(1 << 32) - 12, Some(i32::MAX)),
            (i64::MIN, Some(i32::MAX)),
        ] {
            assert_eq!(errno_of(returned), errno, "{returned}");
        }
    }
}
