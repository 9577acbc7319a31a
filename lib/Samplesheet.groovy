import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.FileSystems
import java.nio.file.Path
import nextflow.Nextflow

/** A sheet with a name and a path in each row: samples against assets/schema_input.json, networks against schema_networks.json. */
class Samplesheet {

    /** A sample (or network) each, in the sheet's order: name, path (found), spatial (true or false), and the other columns' texts. */
    final List<Map> rows = []

    /** What is wrong, one line each: row and column, what came, and what to do. */
    final List<String> problems = []

    /** Columns beyond those of the schema. */
    final List<String> annotations = []

    private final Path sheet
    private final Map<String, Map> columns
    private final List<String> required
    private final String key    // the column with the names, the first that is required
    private final Map<String, Integer> firstRow = [:]

    Samplesheet(String file, Path schemaFile) {
        final items = (new JsonSlurper().parse(schemaFile.toFile()) as Map).items as Map
        sheet = Nextflow.file(file) as Path
        columns = items['properties'] as Map
        required = items.required as List
        key = required[0]
        if (!sheet.isFile()) {
            problems << "${sheet}: this is no file. Write a table with the header ${key},path and a row for each ${key == 'sample' ? 'sample' : 'network'}.".toString()
            return
        }
        // Blank lines keep their numbers, so that a message names the row that an editor shows.
        final table = sheet.getText('UTF-8').replace('\uFEFF', '').readLines().withIndex(1).findAll { line, number -> line.trim() }
        if (table.size() < 2) {
            problems << "${sheet.name}: there is no ${key == 'sample' ? 'sample' : 'network'} in it. Write the header ${key},path and a row for each.".toString()
            return
        }
        final header = cells(table[0][0])
        checkHeader(header)
        if (!problems) {
            annotations.addAll(header.findAll { column -> !columns.containsKey(column) })
            table.drop(1).each { line, number -> read(header, cells(line), number) }
        }
    }

    /** Whether all samples have the same value in a column of the sheet: then there is nothing to integrate over it. */
    boolean isConstant(String column) {
        return rows.every { row -> row[column] } && rows.collect { row -> row[column] }.toSet().size() == 1
    }

    private void checkHeader(List<String> header) {
        required.findAll { column -> !header.contains(column) }.each { column ->
            problems << "${sheet.name}: row 1 (header): column '${column}' is missing, there are ${header.join(', ')}. Add it.".toString()
        }
        header.findAll { column -> header.count(column) > 1 }.unique().each { column ->
            problems << "${sheet.name}: row 1 (header): column '${column}' stands there twice. Remove one.".toString()
        }
        if (header.any { column -> !(column ==~ /\w[\w. -]*/) }) {
            problems << "${sheet.name}: row 1 (header): a column has no proper name. Use letters, digits and underscore.".toString()
        }
    }

    private void read(List<String> header, List<String> values, int number) {
        if (values.size() != header.size()) {
            problems << "${sheet.name}: row ${number}: ${values.size()} cells, but the header has ${header.size()}. Write every cell, quoted if it holds a comma.".toString()
            return
        }
        final Map row = [header, values].transpose().collectEntries()
        row.each { column, value -> checkCell(number, column.toString(), value.toString()) }
        if (row[key] && firstRow.putIfAbsent(row[key], number)) {
            problem(number, key, "'${row[key]}' stands in row ${firstRow[row[key]]} already. Give every ${key == 'sample' ? 'sample' : 'network'} its own name.")
        }
        final isWhole = row.path =~ /^(\/|\w+:\/\/)/
        final found = (isWhole ? Nextflow.file(row.path) : sheet.toAbsolutePath().parent.resolve(row.path.toString())) as Path
        if (row.path && !found.exists()) {
            problem(number, 'path', "file or folder not found: ${found}. Correct it; relative paths start at the samplesheet's folder.")
        }
        rows << row + [path: found, spatial: row.spatial == 'true']
    }

    /** Name, size and time of each file below a folder, so that a changed file runs its sample again; '' for a file. */
    static String contentsOf(Path path) {
        if (!Files.isDirectory(path)) {
            return ''
        }
        // The folder may be a link, which walk() follows nowhere else; other file systems have no links.
        final folder = path.fileSystem == FileSystems.default ? path.toRealPath() : path
        final stream = Files.walk(folder)
        try {
            final files = stream.collect { file -> file }.findAll { file -> Files.isRegularFile(file) }
            final told = files.collect { file -> "${folder.relativize(file)} ${Files.size(file)} ${Files.getLastModifiedTime(file).toMillis()}".toString() }
            return told.sort().join('\n').md5()
        } finally {
            stream.close()
        }
    }

    private void checkCell(int number, String column, String value) {
        final property = columns[column] ?: [:]
        if (!value) {
            // An annotation may be unknown for no sample: half-empty columns would mix text and missing values.
            if (required.contains(column) || !columns.containsKey(column)) {
                problem(number, column, 'the cell is empty. Fill it in.')
            }
        } else if (property.enum && !property.enum.contains(value)) {
            problem(number, column, "'${value}' is not allowed. Use one of ${property.enum.join(', ')}.")
        } else if (property.pattern && !(value ==~ property.pattern)) {
            problem(number, column, "'${value}' is not allowed. ${property.errorMessage}")
        }
    }

    private void problem(int number, String column, String text) {
        problems << "${sheet.name}: row ${number}, column '${column}': ${text}".toString()
    }

    /** The cells of a line; a cell in double quotes may hold commas, and "" for a quote. */
    private static List<String> cells(String line) {
        final found = []
        final cell = new StringBuilder()
        boolean quoted = false
        line.eachWithIndex { letter, i ->
            if (letter == '"') {
                if (!quoted && i > 0 && line[i - 1] == '"') {
                    cell << '"'
                }
                quoted = !quoted
            } else if (letter == ',' && !quoted) {
                found << cell.toString().trim()
                cell.length = 0
            } else {
                cell << letter
            }
        }
        return (found + [cell.toString().trim()]) as List<String>
    }
}
