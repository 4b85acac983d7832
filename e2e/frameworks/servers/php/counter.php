<?php
// How often the server has written. The processes that answer requests share it by a file.
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
