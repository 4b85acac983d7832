<?php
// A front controller that reads requests as the classes of Flight do (flight/net/Request.php,
// Router.php and Route.php of version 3). Flight itself is only on Packagist, which this rig does
// not use.
error_reporting(0);
require dirname(__DIR__) . '/counter.php';

function requestMethod(): string
{
    $method = $_SERVER['REQUEST_METHOD'] ?? 'GET';
    if (($_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE'] ?? '') !== '') {
        $method = $_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE'];
    } elseif (isset($_REQUEST['_method'])) {
        $method = $_REQUEST['_method'];
    }
    return strtoupper($method);
}

function requestURL(): string
{
    $url = str_replace('@', '%40', $_SERVER['REQUEST_URI'] ?? '/');
    $base = str_replace(['\\', ' '], ['/', '%20'], dirname($_SERVER['SCRIPT_NAME'] ?? ''));
    if ($base !== '/' && $base !== '' && strpos($url, $base) === 0) {
        $url = substr($url, strlen($base));
    }
    return $url === '' ? '/' : $url;
}

// Patterns match in any case, with a trailing slash, and with a query or what decodes to one.
function matches(string $pattern): bool
{
    return preg_match('#^' . $pattern . '/?(?:\?[\s\S]*)?$#i', urldecode(requestURL())) === 1;
}

$method = requestMethod();
$writes = ['POST', 'PUT', 'PATCH', 'DELETE'];
if (matches('/__counter')) {
    echo counter(false);
} elseif (matches('/orders(/[^/?]+)?')) {
    echo in_array($method, $writes, true) ? counter(true) : 'read';
} elseif (matches('/tenant')) {
    echo ($_SERVER['HTTP_HOST'] ?? '') === 'orders.test' && in_array($method, $writes, true) ? counter(true) : 'read';
} elseif (matches('/logout')) {
    echo $method === 'GET' ? counter(true) : 'read';
} elseif (matches('/healthz')) {
    echo 'read';
} elseif (matches('/(search|login)')) {
    echo in_array($method, array_slice($writes, 1), true) ? counter(true) : 'read';
} else {
    http_response_code(404);
}
