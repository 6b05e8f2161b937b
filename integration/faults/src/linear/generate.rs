//! Histories for the tests: of a register that is right, seen by callers some of whom never hear an answer.

use proptest::prelude::*;

use super::{Answer, Call, Expect, Operation};

/// A chance that is the same for the same seed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`: xorshift64*.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// How a register is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) operations: u64,
    pub(super) clients: u64,
    /// One write of so many is never answered.
    pub(super) unknown_one_in: u64,
    /// Whether versions are told.
    pub(super) versions: bool,
}

/// Runs a right register: each operation takes effect at one moment between its start and its end.
pub(super) fn of_a_register(seed: u64, usage: Usage) -> Vec<Operation> {
    let mut dice = Dice::new(seed);
    let mut free_at = vec![0_u64; usage.clients as usize];
    let mut moments: Vec<(u64, Operation)> = Vec::new();
    for id in 0..usage.operations {
        let client = dice.below(usage.clients) as usize;
        let invoked = free_at[client] + 1 + dice.below(10);
        let moment = invoked + dice.below(20);
        let returned = moment + dice.below(20);
        free_at[client] = returned;
        let call = match dice.below(8) {
            0..=2 => Call::Get,
            3..=5 => Call::Put { expect: Expect::Any, value: id },
            6 => Call::Put { expect: Expect::Absent, value: id },
            _ => Call::Delete { expect: Expect::Any },
        };
        moments.push((moment, Operation { id, invoked, returned, call, answer: Answer::Unknown }));
    }
    moments.sort_by_key(|(moment, operation)| (*moment, operation.id));
    let mut register: Option<(u64, u64)> = None;
    let mut version = 0;
    let told = |version| usage.versions.then_some(version);
    for (_, operation) in &mut moments {
        if let Call::Put { expect, .. } = &mut operation.call
            && let Some((_, present)) = register
            && usage.versions
            && dice.below(3) == 0
        {
            // The caller has read it before; or it has not, and guesses.
            *expect = Expect::Version(if dice.below(4) == 0 { present.saturating_sub(1) } else { present });
        }
        let is_write = !matches!(operation.call, Call::Get);
        let lost = is_write && dice.below(usage.unknown_one_in) == 0;
        if lost && dice.below(2) == 0 {
            continue;
        }
        let answer = perform(operation.call, &mut register, &mut version, told);
        operation.answer = if lost { Answer::Unknown } else { answer };
    }
    moments.into_iter().map(|(_, operation)| operation).collect()
}

fn perform(
    call: Call,
    register: &mut Option<(u64, u64)>,
    version: &mut u64,
    told: impl Fn(u64) -> Option<u64>,
) -> Answer {
    let (expect, becomes) = match (call, *register) {
        (Call::Get, Some((value, version))) => return Answer::Found { value, version: told(version) },
        (Call::Get, None) | (Call::Delete { .. }, None) => return Answer::Missing,
        (Call::Put { expect, value }, _) => (expect, Some(value)),
        (Call::Delete { expect }, _) => (expect, None),
    };
    match (expect, *register) {
        (Expect::Absent, Some(_)) => return Answer::Unexpected,
        (Expect::Version(_), None) => return Answer::Missing,
        (Expect::Version(wanted), Some((_, present))) if wanted != present => return Answer::Unexpected,
        _ => {}
    }
    // Other files of the tree take versions, too.
    *version += 3;
    *register = becomes.map(|value| (value, *version));
    Answer::Done { version: told(*version) }
}

/// Small histories of any kind, most of them nearly right.
pub(super) fn anything() -> impl Strategy<Value = Vec<Operation>> {
    let operation = (0_u64..12, 0_u64..6, 0_u8..6, 0_u8..8, 1_u64..6, 0_u64..7, any::<bool>());
    proptest::collection::vec(operation, 1..7).prop_map(|drawn| {
        let operations = (0..).zip(drawn);
        let made = operations.map(|(id, (invoked, lasts, call, answer, version, value, told))| {
            let expect = match version {
                1..=2 => Expect::Any,
                3 => Expect::Absent,
                _ => Expect::Version(version - 3),
            };
            let call = match call {
                0..=1 => Call::Get,
                2..=4 => Call::Put { expect, value: id },
                _ if expect == Expect::Absent => Call::Delete { expect: Expect::Any },
                _ => Call::Delete { expect },
            };
            let version = told.then_some(version);
            let answer = match (call, answer) {
                (Call::Get, 0..=1) => Answer::Missing,
                (Call::Get, _) => Answer::Found { value, version: None },
                (_, 0..=3) => Answer::Done { version },
                (Call::Put { expect: Expect::Absent, .. }, 4) => Answer::Unexpected,
                (_, 4) if matches!(expect, Expect::Version(_)) => Answer::Unexpected,
                (Call::Delete { .. }, 5) => Answer::Missing,
                (_, 6) if !matches!(expect, Expect::Version(_)) => Answer::Unknown,
                _ => Answer::Done { version: None },
            };
            Operation { id, invoked, returned: invoked + lasts, call, answer }
        });
        made.collect()
    })
}
