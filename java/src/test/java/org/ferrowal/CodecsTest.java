package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.ferrowal.LogOptions.Compression;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Compression and encryption, as a JVM program uses them. */
class CodecsTest {
    private static final String A = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    private static final String B = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    @TempDir
    private Path temp;

    private LogOptions options() {
        return LogOptions.in(temp.resolve("log"), LogOptions.Role.RECEIVERS).linger(Duration.ZERO);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static byte[] text(int length, int seed) {
        StringBuilder text = new StringBuilder(length + 40);
        for (int i = seed; text.length() < length; i++) {
            text.append("event ").append(i * 7919 % 1000).append(" of sensor ").append(i % 17).append('\n');
        }
        return text.substring(0, length).getBytes(StandardCharsets.US_ASCII);
    }

    private static byte[] random(int length, int seed) {
        byte[] bytes = new byte[length];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private Path file(String name, String text) throws IOException {
        return Files.writeString(temp.resolve(name), text);
    }

    @Test
    void everyCodecAndKeyGivesBackWhatWasWritten() throws IOException {
        String key = "file:" + file("a.key", A + "\n");
        List<RecordLocation> locations = new ArrayList<>();
        List<byte[]> records = new ArrayList<>();
        for (Compression compression : Compression.values()) {
            for (boolean encrypted : new boolean[] {false, true}) {
                LogOptions with = options().compression(compression).zstdLevel(3);
                try (Log log = Log.open(encrypted ? with.encryption(key) : with)) {
                    for (int length : new int[] {0, 1, 300, 65_536, 1 << 20, 5_000_000}) {
                        for (byte[] record : List.of(text(length, 3), random(length, 5))) {
                            RecordLocation location = log.append(ByteBuffer.wrap(record), 1);
                            ByteBuffer direct = ByteBuffer.allocateDirect(length).put(record).flip();
                            locations.add(log.append(direct, 1));
                            records.add(record);
                            assertEquals(length, location.length());
                            assertArrayEquals(record, bytes(log.read(location)));
                        }
                    }
                }
            }
        }
        try (Log log = Log.open(options().decryption(key))) {
            for (int i = 0; i < records.size(); i++) {
                assertArrayEquals(records.get(i), bytes(log.read(locations.get(i))));
            }
            try (Records all = log.scan()) {
                int count = 0;
                while (all.hasNext()) {
                    assertArrayEquals(records.get(count++ / 2), bytes(all.next()));
                }
                assertEquals(2 * records.size(), count);
            }
        }
    }

    @Test
    void aKeyThatIsMissingIsSaidAndNothingIsCalledDamaged() {
        byte[] record = text(1000, 1);
        RecordLocation location;
        try (Log log = Log.open(options().encryption("hex:" + A))) {
            location = log.append(ByteBuffer.wrap(record), 1);
        }
        for (LogOptions without : List.of(options(), options().encryption("hex:" + B),
            options().recovery(LogOptions.Recovery.SALVAGE))) {
            try (Log log = Log.open(without)) {
                String read = assertThrows(MissingKeyException.class, () -> log.read(location)).getMessage();
                assertTrue(read.contains("spark.ferrowal.encryption.key") && read.contains("nothing is damaged"), read);
                assertFalse(read.contains(A.substring(0, 8)), read);
                try (Records all = log.scan()) {
                    assertThrows(MissingKeyException.class, all::hasNext);
                }
            }
        }
        // Rotation: new records with one key, older ones with another.
        try (Log log = Log.open(options().encryption("hex:" + B, "hex:" + A))) {
            assertArrayEquals(record, bytes(log.read(location)));
            RecordLocation next = log.append(ByteBuffer.wrap(record), 2);
            assertArrayEquals(record, bytes(log.read(next)));
        }
    }

    @Test
    void aRecordThatIsNotEncryptedIsRefusedWhereThatIsRequired() {
        byte[] record = text(1000, 1);
        RecordLocation plain;
        try (Log log = Log.open(options())) {
            plain = log.append(ByteBuffer.wrap(record), 1);
        }
        for (LogOptions.Recovery policy : LogOptions.Recovery.values()) {
            LogOptions required = options().encryption("hex:" + A).encryptionRequired(true).recovery(policy);
            try (Log log = Log.open(required); Records all = log.scan()) {
                String refused = assertThrows(UnauthenticatedRecordException.class, () -> log.read(plain)).getMessage();
                assertTrue(refused.contains("spark.ferrowal.encryption.required"), refused);
                assertThrows(UnauthenticatedRecordException.class, all::hasNext);
                RecordLocation next = log.append(ByteBuffer.wrap(record), 2);
                assertArrayEquals(record, bytes(log.read(next)));
            }
        }
        String refused = assertThrows(IllegalArgumentException.class,
            () -> Log.open(options().decryption("hex:" + A).encryptionRequired(true))).getMessage();
        assertTrue(refused.contains("no key to write with"), refused);
    }

    @Test
    void aKeyIsNeverShown() throws IOException {
        String shown = options().encryption("hex:" + A, "hex:" + B).toString();
        assertFalse(shown.contains(A.substring(0, 8)) || shown.contains(B.substring(0, 8)), shown);
        assertTrue(shown.contains("encrypts=true"), shown);
        String half = A.substring(0, 32);
        for (String wrong : List.of("hex:" + half, half, "base64:" + half, "file:" + file("short.key", half))) {
            String message = assertThrows(IllegalArgumentException.class,
                () -> Log.open(options().encryption(wrong))).getMessage();
            assertFalse(message.contains(half.substring(0, 8)), message);
        }
        String message = assertThrows(RuntimeException.class,
            () -> Log.open(options().encryption("file:" + temp.resolve("none.key")))).getMessage();
        assertTrue(message.contains("none.key"), message);
    }

    @Test
    void whatMakesNoSenseIsRefused() {
        String message = assertThrows(IllegalArgumentException.class,
            () -> Log.open(options().compression(Compression.ZSTD).zstdLevel(23))).getMessage();
        assertEquals("zstdLevel must be -7 to 22, not 23", message);
    }
}
