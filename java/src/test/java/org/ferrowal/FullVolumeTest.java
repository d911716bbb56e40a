package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FullVolumeTest {
    @TempDir
    private Path temp;

    @Test
    void aSmallVolumeFillsAndGoesOnOnceItIsCleaned() throws IOException {
        Path volume = Files.createDirectories(temp.resolve("volume"));
        try (Child child = Child.plain(Child.mounting(volume, "size=24m"), Program.class, List.of(), "fill",
                volume.resolve("log").toString())) {
            assertEquals(0, child.exit(Duration.ofSeconds(120)), child::output);
            List<String> full = child.output().lines().filter(line -> line.startsWith("full ")).collect(Collectors.toList());
            assertEquals(3, full.size(), child::output);
            for (String line : full) {
                String[] words = line.split(" ");
                assertTrue(Long.parseLong(words[2]) < 5000, line);
                // 30 KB each: a good part of the volume is used.
                assertTrue(Integer.parseInt(words[5].replace(":", "")) > 250, line);
                assertTrue(line.endsWith("free space there and write again; nothing acknowledged is affected"), line);
            }
            assertEquals(3, child.output().lines().filter("goes on: 1000"::equals).count(), child::output);
            assertFalse(child.output().contains("altered: "), child::output);
            assertTrue(child.output().endsWith("closed"), child::output);
        }
    }

    /** A volume that was full before there was a log: the first write says so like any other. */
    @Test
    void theFirstWriteOfANewLogSaysThatTheVolumeIsFull() throws IOException {
        // Without bytes, and without names.
        for (String size : List.of("size=24m", "size=24m,nr_inodes=22")) {
            Path volume = Files.createDirectories(temp.resolve("volume"));
            try (Child child = Child.plain(Child.mounting(volume, size), Program.class, List.of(), "full",
                    volume.toString())) {
                assertEquals(0, child.exit(Duration.ofSeconds(120)), child::output);
                for (LogOptions.Role role : LogOptions.Role.values()) {
                    String full = role + ": StorageFullException: no space left for the log in " + volume.resolve(role.name())
                        + " (waited 0ns for clean to free some): free space there and write again; nothing acknowledged is"
                        + " affected";
                    assertEquals(2, child.output().lines().filter(full::equals).count(), child::output);
                    assertTrue(child.output().lines().anyMatch((role + " goes on: 1000")::equals), child::output);
                }
            }
        }
    }
}
