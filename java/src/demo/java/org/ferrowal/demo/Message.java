package org.ferrowal.demo;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.zip.CRC32C;

/**
 * A numbered message whose every byte follows from its number, so that whoever holds one can tell whether it is intact:
 * number (8 bytes), CRC-32C of number and payload (4 bytes), payload. Sizes are spread evenly on a logarithmic scale from
 * 100 bytes to 200 KB, 26 KB on average.
 */
final class Message {
    private static final int HEADER = Long.BYTES + Integer.BYTES;
    private static final double SMALLEST = 100;
    private static final double LARGEST = 200_000;

    private Message() {
    }

    /** The whole message, header included. */
    static byte[] encode(long number) {
        SplittableRandom random = new SplittableRandom(number);
        int size = (int) (SMALLEST * Math.pow(LARGEST / SMALLEST, random.nextDouble()));
        byte[] payload = new byte[size - HEADER];
        random.nextBytes(payload);
        return ByteBuffer.allocate(size).putLong(number).putInt(checksum(number, payload)).put(payload).array();
    }

    /** The number that the message claims; meaningful only if it is {@link #intact}. */
    static long number(byte[] message) {
        return message.length < HEADER ? -1 : ByteBuffer.wrap(message).getLong();
    }

    /** Whether every byte is the one that was sent: the checksum holds, and so does a comparison with the original. */
    static boolean intact(byte[] message) {
        if (message.length < HEADER) {
            return false;
        }
        byte[] payload = Arrays.copyOfRange(message, HEADER, message.length);
        int expected = ByteBuffer.wrap(message).getInt(Long.BYTES);
        long number = number(message);
        return checksum(number, payload) == expected && Arrays.equals(message, encode(number));
    }

    private static int checksum(long number, byte[] payload) {
        CRC32C crc = new CRC32C();
        crc.update(ByteBuffer.allocate(Long.BYTES).putLong(0, number));
        crc.update(payload);
        return (int) crc.getValue();
    }
}
