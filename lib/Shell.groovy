/** Values for the command line of a task. */
class Shell {

    /** Options `--some-name 'value'` of a map; a list gives its option once for each item. */
    static String options(Map values) {
        return values.collect { name, value -> repeated(name.toString().replace('_', '-'), value) }.findAll().join(' ')
    }

    /** `--name 'value'`, once for each item of a list. */
    static String repeated(String name, Object value) {
        final items = value instanceof Collection ? value : [value]
        return items.collect { item -> "--${name} ${quote(item)}" }.join(' ')
    }

    /** A value as one word of the shell. */
    static String quote(Object value) {
        return "'" + value.toString().replace("'", "'\\''") + "'"
    }
}
