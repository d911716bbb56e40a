package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.StringWriter;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the README shows is a program, with its imports. */
class ReadmeTest {
    private static final Pattern PROGRAM = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);
    private static final Pattern NAME = Pattern.compile("public class (\\w+)");

    @TempDir
    private Path temp;

    @Test
    void everyJavaProgramCompilesAsItIs() throws IOException {
        assumeTrue(ToolProvider.getSystemJavaCompiler() != null, "skipped: this Java is a runtime without a compiler");
        Path docs = Path.of(System.getProperty("ferrowal.test.docs"));
        Matcher programs = PROGRAM.matcher(Files.readString(docs.resolveSibling("README.md")));
        int found = 0;
        for (; programs.find(); found++) {
            compile(programs.group(1));
        }
        assertTrue(found > 0, "the README has no program in Java");
    }

    private void compile(String program) {
        Matcher name = NAME.matcher(program);
        URI source = URI.create("readme:///" + (name.find() ? name.group(1) : "Nameless") + ".java");
        JavaFileObject file = new SimpleJavaFileObject(source, JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return program;
            }
        };
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter said = new StringWriter();
        List<String> options = List.of("-d", temp.toString(), "-cp", System.getProperty("ferrowal.test.jar"));
        assertTrue(compiler.getTask(said, null, null, options, null, List.of(file)).call(), said::toString);
    }
}
