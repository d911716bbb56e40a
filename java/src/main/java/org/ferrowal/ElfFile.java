package org.ferrowal;

import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * How long a shared library must be, by its own headers. The system's loader maps what they name: where the file ends
 * before that, it dies of SIGBUS, and the JVM with it.
 */
final class ElfFile {
    private static final int HEADER = 64;
    private static final int PROGRAM_HEADER = 56;
    private static final int MAGIC = 0x464c457f;
    private static final byte BITS_64 = 2;
    private static final byte LITTLE_ENDIAN = 1;

    private ElfFile() {
    }

    /**
     * Gives the bytes that {@code file} lacks of what its headers name: 0 for a whole one, and for what is no 64-bit
     * little-endian ELF file, which the loader refuses, or knows, by itself.
     */
    static long missing(Path file) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            long length = channel.size();
            if (length < HEADER) {
                return length >= Integer.BYTES && read(channel, 0, Integer.BYTES).getInt(0) == MAGIC ? HEADER - length : 0;
            }
            ByteBuffer header = read(channel, 0, HEADER);
            if (header.getInt(0) != MAGIC || header.get(4) != BITS_64 || header.get(5) != LITTLE_ENDIAN) {
                return 0;
            }
            long programs = header.getLong(32);
            long sections = header.getLong(40);
            int programSize = Short.toUnsignedInt(header.getShort(54));
            int programCount = Short.toUnsignedInt(header.getShort(56));
            int sectionSize = Short.toUnsignedInt(header.getShort(58));
            int sectionCount = Short.toUnsignedInt(header.getShort(60));
            long end = Math.max(end(programs, (long) programSize * programCount),
                end(sections, (long) sectionSize * sectionCount));
            for (int i = 0; i < programCount && programSize >= PROGRAM_HEADER && end <= length; i++) {
                ByteBuffer program = read(channel, programs + (long) i * programSize, PROGRAM_HEADER);
                end = Math.max(end, end(program.getLong(8), program.getLong(32)));
            }
            return Math.max(0, end - length);
        }
    }

    /** What a table or a part needs of the file; nothing has an end beyond {@link Long#MAX_VALUE}. */
    private static long end(long offset, long bytes) {
        if (bytes == 0) {
            return 0;
        }
        return offset < 0 || bytes < 0 || offset > Long.MAX_VALUE - bytes ? Long.MAX_VALUE : offset + bytes;
    }

    private static ByteBuffer read(FileChannel channel, long offset, int bytes) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
        while (buffer.hasRemaining()) {
            if (channel.read(buffer, offset + buffer.position()) < 0) {
                throw new EOFException("the file ends at " + (offset + buffer.position()));
            }
        }
        return buffer;
    }
}
