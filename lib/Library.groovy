import groovy.transform.CompileStatic
import groovy.transform.Memoized
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.security.MessageDigest

/**
 * The part of rsc_core that a stage uses, as a folder that never changes.
 *
 * Nextflow hashes a task's script in bin/ but not the library that it imports, and a folder only by its time. Therefore the
 * files that bin/STAGE.py reaches through its imports are copied once to WORKDIR/lib/DIGEST/rsc_core, and that folder is an
 * input of the stage's tasks: an edited file re-runs the stages that import it and no other, a task cannot import a file
 * that is not in its hash, and an edit during a run does no harm. What is found out of a file is kept: the stages share most.
 */
@CompileStatic
class Library {

    static final String FROM = /(?m)^\s*from\s+(rsc_core[\w.]*)\s+import\s+(\([^)]*\)|[^\n]+)/
    static final String PLAIN = /(?m)^\s*import\s+(rsc_core[\w.]*)/

    /** Copies what a stage needs below workDir, if it is not there, and returns the folder. */
    static Path of(Path project, Path workDir, String stage) {
        final python = project.resolve('python')
        final files = closure(python, project.resolve("bin/${stage}.py"))
        final sha = MessageDigest.getInstance('SHA-256')
        for (String name : files) {
            sha.update("${name}\0".bytes)
            sha.update(digestOf(python.resolve(name)))
        }
        final home = workDir.resolve('lib').resolve(sha.digest().encodeHex().toString().take(16))
        files.each { name -> copyOnce(python.resolve(name), home.resolve(name), home) }
        // Python puts compiled code there later, which must not change the time of the folder that Nextflow hashes.
        Files.createDirectories(home.resolve('rsc_core/__pycache__'))
        return home.resolve('rsc_core')
    }

    @Memoized
    private static byte[] digestOf(Path file) {
        return MessageDigest.getInstance('SHA-256').digest(Files.readAllBytes(file))
    }

    /** A half-written copy has another name, so that a file that is there is whole. */
    private static void copyOnce(Path file, Path copy, Path home) {
        if (Files.exists(copy)) {
            return
        }
        Files.createDirectories(copy.parent)
        final half = home.resolve("${UUID.randomUUID()}.tmp")
        Files.write(half, Files.readAllBytes(file))
        Files.move(half, copy, StandardCopyOption.REPLACE_EXISTING)
    }

    /** Names, relative to the python folder and sorted, of all files that a script reaches through its imports. */
    static List<String> closure(Path python, Path script) {
        final found = new TreeSet<String>()
        final open = new ArrayDeque<Path>([script])
        while (open) {
            for (String name : imported(open.pop())) {
                for (String file : filesOf(python, name)) {
                    if (found.add(file) && file.endsWith('.py')) {
                        open.push(python.resolve(file))
                    }
                }
            }
        }
        return found.toList()
    }

    /** Dotted names that a Python file imports from rsc_core: modules, and names that may be modules. */
    @Memoized
    static Set<String> imported(Path file) {
        final names = new LinkedHashSet<String>()
        final text = Files.readString(file)
        final plain = text =~ PLAIN
        while (plain.find()) {
            names << plain.group(1)
        }
        final from = text =~ FROM
        while (from.find()) {
            names << from.group(1)
            final list = from.group(2).replaceAll(/#[^\n]*/, '').replaceAll(/[()]/, '')
            list.split(',').each { item -> names << from.group(1) + '.' + item.trim().split(/\s+/)[0] }
        }
        return names
    }

    /** The files behind a dotted name, its parent packages included; none where the name is no module. */
    @Memoized
    static List<String> filesOf(Path python, String name) {
        final parts = name.tokenize('.')
        final List<String> files = []
        for (int depth = 1; depth <= parts.size(); depth++) {
            final base = parts.take(depth).join('/')
            if (Files.exists(python.resolve("${base}/__init__.py"))) {
                files << "${base}/__init__.py".toString()
                files.addAll(dataOf(python, base))
            } else if (Files.exists(python.resolve("${base}.py"))) {
                files << "${base}.py".toString()
                files.addAll(kernelOf(python, base))
            }
        }
        return files
    }

    /** The CUDA text beside a module, with the headers of its folder. */
    private static List<String> kernelOf(Path python, String base) {
        if (!Files.exists(python.resolve("${base}.cu"))) {
            return []
        }
        final folder = base.substring(0, base.lastIndexOf('/'))
        return ["${base}.cu".toString()] + listed(python, folder).findAll { file -> file.endsWith('.cuh') }
    }

    /** What lies in a package's folder and in those below that are no packages, and is no code: templates and tables. */
    private static List<String> dataOf(Path python, String folder) {
        final List<String> files = []
        for (String entry : listed(python, folder)) {
            final path = python.resolve(entry)
            if (Files.isDirectory(path)) {
                if (!entry.endsWith('__pycache__') && !Files.exists(path.resolve('__init__.py'))) {
                    files.addAll(dataOf(python, entry))
                }
            } else if (!(entry =~ /\.(py|pyc|cu|cuh)$/)) {
                files << entry
            }
        }
        return files
    }

    private static List<String> listed(Path python, String folder) {
        final stream = Files.newDirectoryStream(python.resolve(folder))
        try {
            return stream.collect { path -> "${folder}/${path.fileName}".toString() }.findAll { name -> !name.contains('/.') }.sort()
        } finally {
            stream.close()
        }
    }
}
