package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativeLibraryTest {
    private static final Duration BOUND = Duration.ofSeconds(60);

    @TempDir
    private Path temp;

    private Path tmpdir() throws IOException {
        return Files.createDirectories(temp.resolve("tmp"));
    }

    private String log() {
        return temp.resolve("log").toString();
    }

    private List<String> lines(Child child, String prefix) {
        return child.output().lines().filter(line -> line.startsWith(prefix)).map(line -> line.substring(prefix.length()))
            .collect(Collectors.toList());
    }

    /** Runs the program, and gives the message of the failure to load, which must be the same twice. */
    private String failure(String... options) {
        try (Child child = Child.plain(Program.class, List.of(options), "fail", log())) {
            assertEquals(0, child.exit(BOUND), child::output);
            List<String> messages = lines(child, "failed: ");
            assertEquals(2, messages.size(), child::output);
            assertEquals(messages.get(0), messages.get(1));
            return messages.get(0);
        }
    }

    @Test
    void aJvmEndsPromptlyAfterMainAndLeavesNoFile() throws IOException {
        try (Child child = Child.plain(Program.class, List.of("-Dferrowal.native.tmpdir=" + tmpdir()), "write", log())) {
            child.await(line -> line.equals("end of main"), BOUND);
            assertEquals(0, child.exit(Duration.ofSeconds(5)));
            assertEquals(List.of("0"), lines(child, "files left: "));
            assertEquals(List.of("42"), lines(child, "read: "));
        }
        try (Stream<Path> left = Files.list(tmpdir())) {
            assertEquals(0, left.count());
        }
    }

    @Test
    void theCopyIsKeptOnRequestAndIsPrivate() throws IOException {
        try (Child child = Child.plain(Program.class,
                List.of("-Dferrowal.native.tmpdir=" + tmpdir(), "-Dferrowal.native.keep=true"), "write", log())) {
            assertEquals(0, child.exit(BOUND), child::output);
            assertEquals(List.of("1"), lines(child, "files left: "));
        }
        try (Stream<Path> left = Files.list(tmpdir())) {
            assertEquals("rwx------", java.nio.file.attribute.PosixFilePermissions.toString(
                Files.getPosixFilePermissions(left.findFirst().orElseThrow())));
        }
    }

    @Test
    void twoClassLoadersInOneJvm() {
        try (Child child = Child.plain(Program.class, List.of(), "loaders", log())) {
            assertEquals(0, child.exit(BOUND), child::output);
            assertEquals(List.of("42", "42"), lines(child, "read: "));
            assertEquals(List.of("URLClassLoader", "URLClassLoader"), lines(child, "loaded by: "));
        }
    }

    @Test
    void anExplicitPathNeverFallsBack() {
        assertEquals("cannot load the native library that -Dferrowal.native.path=/nowhere/libferrowal.so names: "
            + "Can't load library: /nowhere/libferrowal.so", failure("-Dferrowal.native.path=/nowhere/libferrowal.so"));
    }

    @Test
    void anotherLibraryIsNotTakenForOurs() {
        String other = Path.of(System.getProperty("java.home"), "lib", "libprefs.so").toString();
        String message = failure("-Dferrowal.native.path=" + other);
        assertTrue(message.startsWith("the library that was loaded is not ferrowal's, or ferrowal's classes were relocated"
            + " into another package, which their native methods do not survive: "), message);
    }

    @Test
    void anArchitectureThatTheJarLacks() {
        assertEquals("ferrowal's jar holds no native library for linux-riscv64"
            + " (/META-INF/native/linux-riscv64/libferrowal.so); tried java.library.path first: build one there with"
            + " \"gradle jar\", or name one with -Dferrowal.native.path", failure("-Dos.arch=riscv64"));
    }

    @Test
    void muslIsKnownByWhateverNameADistributionGivesIt() {
        String mapped = "7fee85222000-7fee85224000 rw-p 001d3000 fe:00 326269                     ";
        for (String musl : List.of("/lib/ld-musl-x86_64.so.1", "/usr/lib/x86_64-linux-musl/libc.so", "/usr/lib/libc.so")) {
            assertTrue(NativeLibrary.isMusl(Stream.of(mapped + "/usr/bin/java", mapped + musl)), musl);
        }
        for (String glibc : List.of("/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc-2.17.so",
            "/usr/lib64/ld-linux-x86-64.so.2")) {
            assertFalse(NativeLibrary.isMusl(Stream.of(mapped + "/usr/bin/java", mapped + glibc)), glibc);
        }
    }

    @Test
    void aTemporaryDirectoryThatIsNotThere() {
        String message = failure("-Dferrowal.native.tmpdir=/nowhere");
        assertTrue(message.matches("cannot copy the native library to a directory below /nowhere:"
            + " java\\.nio\\.file\\.NoSuchFileException: /nowhere/ferrowal-\\d+; set -Dferrowal\\.native\\.tmpdir to a"
            + " directory that this user can write to"), message);
    }

    @Test
    void theLibraryPathComesBeforeTheJar() throws IOException {
        Path other = Path.of(System.getProperty("java.home"), "lib", "libprefs.so");
        Files.copy(other, tmpdir().resolve("libferrowal.so"));
        String message = failure("-Djava.library.path=" + tmpdir());
        assertTrue(message.startsWith("the library that was loaded is not ferrowal's"), message);
    }

    @Test
    void aVolumeMountedNoexecIsNamed() throws IOException {
        List<String> prefix = Child.mounting(tmpdir(), "noexec");
        try (Child child = Child.plain(prefix, Program.class, List.of("-Dferrowal.native.tmpdir=" + tmpdir()), "fail",
                log())) {
            assertEquals(0, child.exit(BOUND), child::output);
            String message = lines(child, "failed: ").get(0);
            assertTrue(message.startsWith("cannot load the native library, copied from the jar to " + tmpdir()), message);
            assertTrue(message.endsWith("; " + tmpdir() + " seems to be on a volume mounted noexec: set"
                + " -Dferrowal.native.tmpdir to a directory that is not"), message);
            assertEquals(List.of("1", "1"), lines(child, "attempts: "));
        }
    }

    /** Its header is damaged so that it seems to be for s390. */
    @Test
    void aLibraryWhoseHeaderIsDamagedIsNamed() throws IOException {
        byte[] library = Files.readAllBytes(Path.of(System.getProperty("ferrowal.test.hooks")));
        library[18] = 22;
        Path broken = Files.write(tmpdir().resolve("libferrowal.so"), library);
        String message = failure("-Dferrowal.native.path=" + broken);
        assertTrue(message.startsWith("cannot load the native library that -Dferrowal.native.path=" + broken + " names: "),
            message);
        assertTrue(message.matches("(?s).*; the library may be for another architecture than this JVM's \\([\\w-]+\\)"),
            message);
    }

    /** Without a look at its headers the system's loader dies of SIGBUS, and the JVM with it. */
    @Test
    void aLibraryThatIsCutOffIsNamed() throws IOException {
        byte[] library = Files.readAllBytes(Path.of(System.getProperty("ferrowal.test.hooks")));
        for (int length : new int[] {17, 63, 64, 4096, library.length / 3, library.length - 1}) {
            Path broken = Files.write(tmpdir().resolve("libferrowal.so"), Arrays.copyOf(library, length));
            String message = failure("-Dferrowal.native.path=" + broken);
            assertTrue(message.startsWith("the native library " + broken + " is cut off: it lacks "), message);
            assertEquals(message, failure("-Djava.library.path=" + tmpdir()));
        }
    }

    /** A file in place of the directory: root, as whom tests may run, is refused no directory. */
    @Test
    void aTemporaryDirectoryThatIsAFile() throws IOException {
        Path file = Files.write(tmpdir().resolve("file"), new byte[1]);
        String message = failure("-Dferrowal.native.tmpdir=" + file);
        assertTrue(message.startsWith("cannot copy the native library to a directory below " + file + ": "), message);
        assertTrue(message.endsWith("; set -Dferrowal.native.tmpdir to a directory that this user can write to"), message);
    }

    @Test
    void aLoggingBackendThatIsStuckOrThrowsHarmsNobody() {
        try (Child child = Child.plain(Program.class,
                List.of("-Dferrowal.native.path=" + System.getProperty("ferrowal.test.hooks")), "backend", log())) {
            child.await(line -> line.equals("end of main"), BOUND);
            assertEquals(0, child.exit(BOUND), child::output);
            assertEquals(2, lines(child, "went on: ").size(), child::output);
            // The last one's line may come after the end of main; and one may begin in the middle of a backtrace's line.
            String said = "ferrowal could not log (java.lang.AssertionError: planted";
            assertTrue(child.output().split(Pattern.quote(said), -1).length > 2, child::output);
        }
    }

    @Test
    void aPanicIsAnExceptionAndTheLogTakesNoMoreWrites() {
        panic("panic");
    }

    /** The closed instance still has its number, and must not pass its panic on. */
    @Test
    void aPanicIsOverAfterACloseThatAllowsWrites() {
        panic("panicAfterClose");
    }

    private void panic(String program) {
        String tail = "; the log takes no more writes until it is opened again";
        String head = "internal error in ferrowal (please report it): ";
        try (Child child = Child.plain(Program.class,
                List.of("-Dferrowal.native.path=" + System.getProperty("ferrowal.test.hooks")), program, log())) {
            assertEquals(0, child.exit(BOUND), child::output);
            List<String> panics = lines(child, "panic: NativePanicException: ");
            assertEquals(2, panics.size(), child::output);
            assertTrue(panics.get(0).matches("\\Q" + head + "\\Eplanted panic in log \\d+\\Q" + tail + "\\E"),
                panics.get(0));
            assertEquals(head + "planted panic" + tail, panics.get(1));
            String refused = "NativePanicException: " + head + "an earlier failure: ";
            assertTrue(lines(child, "append: ").get(0).startsWith(refused), child::output);
            assertTrue(lines(child, "sibling: ").get(0).startsWith(refused), child::output);
            assertEquals(List.of("42"), lines(child, "read: "));
            assertEquals(List.of("1"), lines(child, "again: "));
        }
    }
}
