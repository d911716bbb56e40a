package org.ferrowal;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/**
 * What recovery found and did when a log was opened.
 *
 * @param place the directory that was recovered
 * @param segments segments found
 * @param sealed segments with a valid footer
 * @param records records found and kept
 * @param bytes bytes in them; in segments that a crash left open, with the padding of their frames
 * @param tornBytes torn bytes that were dropped: they were never acknowledged
 * @param voidGroups groups that a later segment had replaced
 * @param corrupt corrupt places
 * @param quarantined files copied to quarantine
 * @param settled segments that an earlier writer had left open, and that were sealed now
 * @param removed segments removed: never written to, or cleaned already
 * @param setAside records of earlier generations, set aside
 * @param others other writers of the same log: executors that live or lived; only for receivers in a local directory
 * @param orphans those of them that are gone; what they left is cleaned once its records are old enough
 * @param generation the generation that is now current
 * @param took how long it took
 * @param findings every torn or corrupt place
 */
public record RecoveryReport(String place, long segments, long sealed, long records, long bytes, long tornBytes,
                             long voidGroups, long corrupt, long quarantined, long settled, long removed,
                             long setAside, long others, long orphans, long generation, Duration took,
                             List<Finding> findings) {
    private static final int HEAD = 16;
    private static final int FINDING = 5;

    /**
     * One damaged or dropped place.
     *
     * @param writer the writer whose segment it is
     * @param segment the segment
     * @param offset byte offset in the segment
     * @param corrupt whether acknowledged bytes no longer check; otherwise the place is torn and was never acknowledged
     * @param detail what was found, for people
     */
    public record Finding(UUID writer, long segment, long offset, boolean corrupt, String detail) {
    }

    /** From the strings of {@code src/jni/convert.rs}. */
    static RecoveryReport of(String[] strings) {
        long[] numbers = new long[HEAD];
        for (int i = 1; i < HEAD; i++) {
            numbers[i] = Long.parseLong(strings[i]);
        }
        List<Finding> findings = new ArrayList<>();
        for (int i = HEAD; i + FINDING <= strings.length; i += FINDING) {
            findings.add(new Finding(UUID.fromString(strings[i]), Long.parseLong(strings[i + 1]),
                Long.parseLong(strings[i + 2]), Boolean.parseBoolean(strings[i + 3]), strings[i + 4]));
        }
        return new RecoveryReport(strings[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
            numbers[7], numbers[8], numbers[9], numbers[10], numbers[11], numbers[12], numbers[13], numbers[14],
            Duration.ofNanos(numbers[15]), List.copyOf(findings));
    }
}
