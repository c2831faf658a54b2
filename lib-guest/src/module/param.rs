//! Parameters of exported functions.

use lunatic_abi::parameter;

/// A parameter for spawning an exported function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Param {
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A 128-bit vector.
    V128(u128),
}

impl Param {
    /// Encodes the parameter for the machine: the type, followed by the value in 16 bytes.
    pub(crate) fn to_bytes(self) -> [u8; parameter::SIZE] {
        let (kind, value) = match self {
            // Integers are sign-extended.
            Self::I32(value) => (parameter::I32, i128::from(value).cast_unsigned()),
            Self::I64(value) => (parameter::I64, i128::from(value).cast_unsigned()),
            Self::F32(value) => (parameter::F32, u128::from(value.to_bits())),
            Self::F64(value) => (parameter::F64, u128::from(value.to_bits())),
            Self::V128(value) => (parameter::V128, value),
        };
        let mut bytes = [0; parameter::SIZE];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_written_as_its_type_and_its_value_in_seventeen_bytes() {
        let check = |param: Param, kind: u8, value: u128| {
            let bytes = param.to_bytes();
            assert_eq!(bytes[0], kind, "{param:?}");
            assert_eq!(bytes[1..], value.to_le_bytes(), "{param:?}");
        };
        check(Param::I32(7), 0x7f, 7);
        check(Param::I32(-1), 0x7f, u128::MAX);
        check(Param::I64(i64::MIN), 0x7e, u128::MAX << 63);
        check(Param::F32(1.0), 0x7d, 0x3f80_0000);
        check(Param::F64(-0.0), 0x7c, 1 << 63);
        check(Param::V128(u128::MAX - 1), 0x7b, u128::MAX - 1);
    }
}
