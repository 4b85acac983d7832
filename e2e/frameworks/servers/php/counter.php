<?php
// Counts the writes of the server. The processes that answer requests share the count in a file.
function counter(bool $raise): string
{
    $file = fopen(getenv('COUNTER'), 'c+');
    flock($file, LOCK_EX);
    $value = (int) stream_get_contents($file);
    if ($raise) {
        rewind($file);
        fwrite($file, (string) ++$value);
    }
    fclose($file);
    return (string) $value;
}
