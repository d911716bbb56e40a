//! Planted bugs: the simulator is shown to see by what it finds.
//!
//! `planted!(Name)` stands where the bug would be. In tests, and with the feature `simulation`, it asks whether that bug
//! is switched on in this thread; everywhere else it is the word `false`, and neither names nor switch exist
//! (`make check-planted` looks for them in the released library).

#[cfg(any(test, feature = "simulation"))]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
}
#[cfg(not(any(test, feature = "simulation")))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}
pub(crate) use planted;

#[cfg(any(test, feature = "simulation"))]
pub use switch::Bug;
#[cfg(any(test, feature = "simulation"))]
pub(crate) use switch::{Guard, is, simulated_clock, within_bounds};

#[cfg(any(test, feature = "simulation"))]
mod switch {
    use std::cell::Cell;

    macro_rules! bugs {
        (
            $($(#[doc = $text:literal])+ $name:ident,)+;
            $($(#[doc = $far:literal])+ $store:ident,)+
        ) => {
            /// A bug that can be switched on, to see it found.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum Bug {
                $($(#[doc = $text])+ $name,)+
                $($(#[doc = $far])+ $store,)+
            }

            impl Bug {
                /// All that a simulated machine can show.
                pub const ALL: &'static [Bug] = &[$(Bug::$name,)+];
                /// Those of object stores.
                pub const STORES: &'static [Bug] = &[$(Bug::$store,)+];
            }
        };
    }

    bugs! {
        /// A new segment's name is not synced (simulated storage).
        SkipDirectorySync,
        /// A segment has its name before its header is durable (simulated storage).
        NameBeforeHeader,
        /// A deleted segment's file is written again before its old name is durably gone (simulated storage).
        ReuseBeforeDirectorySync,
        /// A group is acknowledged without its barrier.
        AcknowledgeBeforeBarrier,
        /// A failed barrier is tried again on the same file.
        RetryBarrier,
        /// Checksums are not bound to the segment: a stale frame of a recycled file checks.
        TrustStaleFrame,
        /// Checksums are bound to no place at all.
        UnseededChecksum,
        /// A frame's length is believed before anything is allocated for it.
        NoLengthBound,
        /// A group's watermark counts groups that are still on their way.
        WrongWatermark,
        /// Only one of a group's members is woken when it is answered.
        WakeOnlyLeader,
        /// Segments are deleted before the mark that says so is durable.
        DeleteBeforeMark,
        /// A read error during recovery is taken for the end of the segment.
        TruncateOnReadError,
        /// A segment goes when its smallest record time is below the threshold, not its largest.
        CleanByMinTime,
        /// A durable group is answered before older ones are durable.
        AcknowledgeOutOfOrder,
        /// A record that goes by itself is answered before older ones are written.
        AnswerLoneAtOnce,
        /// Those that wait for older ones are not woken when these are written.
        LeaveLoneAsleep,
        /// The number of a segment whose creation failed is used again.
        ReuseId,
        /// Recovery does not know that a later segment makes groups void.
        ForgetVoid,
        /// A segment that cannot be opened is taken for one that is not there.
        ReadErrorIsAbsence,
        /// Recovery cuts torn bytes off without keeping a copy.
        RecoveryDeletesEvidence,
        /// Group headers do not carry the clean threshold.
        ThresholdNotCarried,
        /// Group headers do not carry the low-water mark.
        LowWaterNotCarried,
        /// Recovery trusts what may be in the cache alone.
        RecoveryWithoutSettling,
        /// A segment without a footer counts as empty.
        FooterOnlyProof,
        /// Nobody is woken when a segment was made.
        LostWakeUp,
        /// A segment is sealed while groups are on their way to it.
        SealInFlight,
        /// Groups that are sent again get new sequences, and leave a gap.
        SkipSequence,
        /// A record is read without its checksum.
        UncheckedRead,
        /// Recovery looks at group headers and not at frames.
        UncheckedFrames,
        /// A dead writer is collected whatever its records' times.
        CollectTooMuch,
        /// A dead writer is removed without the note that says so.
        CollectWithoutNote,
        /// What a footer fixes was not made durable before (`durability=os`).
        SealUnsynced,
        /// A fresh generation keeps the clean threshold of the one before.
        ThresholdOfOlderGeneration,
        /// What a failed barrier lost, and the cache still has, is taken for durable (simulated storage).
        TrustCacheAfterFailure,
        /// Recovery deletes because of a segment whose name is not durable.
        ActOnUnsyncedNames,
        /// A group whose frames do not check does not void what was sent again with it.
        ForgetBaseOfBadGroup,
        /// A scan takes the rest of a writer that is being collected for damage.
        CollectedReadsAsDamage,
        /// A scan does not expect that a segment which was never written to may go.
        EmptySegmentMustStay,
        /// Recovery deletes the only segment that says that a generation has begun.
        ForgetGeneration,
        ;
        /// A creation of which the store said nothing clear counts as done.
        UnsureIsDone,
        /// What is there already is taken for what was sent.
        TheirsIsOurs,
        /// A listing is believed although it lacks what is known to be there.
        TrustOldListing,
        /// A driver reads the log before it has raised its fence.
        ReadBeforeFence,
        /// A fence is written over what may be there.
        FenceOverwrites,
        /// Objects are deleted however young they are.
        DeleteYoung,
        /// Nobody looks, after a long pause, whether the log has another owner.
        NoLookAfterPause,
        /// A receiver whose mark is overdue goes on.
        IgnoreOwnMark,
        /// A writer counts as gone by the clock of who looks, and not by the store's.
        OwnClock,
        /// How old a mark is counts when the answer is looked at, and not when it was asked for.
        AgeWhenAnswered,
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static CLOCK: Cell<Option<u64>> = const { Cell::new(None) };
        static MOST: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Whether this bug is switched on in this thread.
    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// The time of day in a simulation.
    pub(crate) fn simulated_clock() -> Option<u64> {
        CLOCK.get()
    }

    /// In a simulation nothing has so many bytes: then somebody believed a wild length.
    pub(crate) fn within_bounds(length: usize) {
        if let Some(most) = MOST.get() {
            assert!(length <= most, "{length} bytes are asked for, where nothing is longer than {most}");
        }
    }

    /// Makes this thread a simulated one while it lives.
    #[derive(Debug)]
    pub(crate) struct Guard(());

    impl Guard {
        pub(crate) fn new(bug: Option<Bug>, most: usize) -> Guard {
            PLANTED.set(bug);
            CLOCK.set(Some(1_000_000));
            MOST.set(Some(most));
            Guard(())
        }

        /// Sets the time of day, in milliseconds since 1970.
        pub(crate) fn set_clock(now: u64) {
            CLOCK.set(Some(now));
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            PLANTED.set(None);
            CLOCK.set(None);
            MOST.set(None);
        }
    }
}
